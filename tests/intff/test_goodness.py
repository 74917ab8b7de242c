import pytest
import torch

from intff.goodness import GOODNESS, by_group, mean_square, sum_square

ACTIVATIONS = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
MAPS = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]], [[[0.0, 0.0]], [[0.5, 0.5]]]])


def test_mean_square_by_hand() -> None:
    assert mean_square(ACTIVATIONS).tolist() == [2.5, 4.5, 0.0, 0.25]
    assert mean_square(MAPS).tolist() == [3.5, 0.125]


def test_sum_square_by_hand() -> None:
    assert sum_square(ACTIVATIONS).tolist() == [5.0, 9.0, 0.0, 0.5]
    assert sum_square(MAPS).tolist() == [14.0, 0.5]


def test_every_choice_of_the_spec_has_its_function() -> None:
    assert set(GOODNESS) == {"mean_square", "sum_square"}
    assert GOODNESS["mean_square"] is mean_square
    assert GOODNESS["sum_square"] is sum_square


def test_even_groups_by_hand() -> None:
    """(1, 2), (3, 0) and (1, 1); the maps' channels are groups of two numbers each."""
    neurons = torch.tensor([[1.0, 2.0, 3.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 0.0, 0.0, 4.0]])
    assert by_group(mean_square, neurons, 3).tolist() == [[2.5, 4.5, 1.0], [0.0, 2.0, 8.0]]
    assert by_group(sum_square, neurons, 3).tolist() == [[5.0, 9.0, 2.0], [0.0, 4.0, 16.0]]
    assert by_group(mean_square, MAPS, 2).tolist() == [[2.5, 4.5], [0.0, 0.25]]
    assert by_group(sum_square, MAPS, 2).tolist() == [[5.0, 9.0], [0.0, 0.5]]


def test_uneven_groups_by_hand() -> None:
    """Of five neurons the first two groups have two and the last has one; so it is with channels."""
    neurons = torch.tensor([[1.0, 2.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.5, 0.5, 1.0]])
    assert by_group(mean_square, neurons, 3).tolist() == [[2.5, 4.5, 4.0], [0.0, 0.25, 1.0]]
    assert by_group(sum_square, neurons, 3).tolist() == [[5.0, 9.0, 4.0], [0.0, 0.5, 1.0]]
    maps = neurons.view(2, 5, 1, 1).repeat(1, 1, 2, 3)
    assert by_group(mean_square, maps, 3).tolist() == [[2.5, 4.5, 4.0], [0.0, 0.25, 1.0]]
    assert by_group(sum_square, maps, 3).tolist() == [[30.0, 54.0, 24.0], [0.0, 3.0, 6.0]]


@pytest.mark.parametrize("name", GOODNESS)
def test_one_group_is_the_whole(name: str) -> None:
    whole = GOODNESS[name](MAPS)
    assert torch.equal(by_group(GOODNESS[name], MAPS, 1).squeeze(1), whole)
