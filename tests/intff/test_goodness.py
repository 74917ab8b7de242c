from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from intff.goodness import GOODNESS, Goodness, by_group, mean_square, sum_square

ACTIVATIONS = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
MAPS = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]], [[[0.0, 0.0]], [[0.5, 0.5]]]])


def _values(goodness: Callable[[Tensor], Tensor], activations: Tensor) -> list[Any]:
    """Where a gradient is to follow, exactly; where none is, they are the same but for the last bits."""
    exact = goodness(activations)
    with torch.no_grad():
        assert_close(goodness(activations), exact, rtol=3e-7, atol=0)
    values: list[Any] = exact.tolist()
    return values


def _of_groups(goodness: Goodness, activations: Tensor, groups: int) -> list[Any]:
    return _values(lambda given: by_group(goodness, given, groups), activations)


def test_mean_square_by_hand() -> None:
    assert _values(mean_square, ACTIVATIONS) == [2.5, 4.5, 0.0, 0.25]
    assert _values(mean_square, MAPS) == [3.5, 0.125]


def test_sum_square_by_hand() -> None:
    assert _values(sum_square, ACTIVATIONS) == [5.0, 9.0, 0.0, 0.5]
    assert _values(sum_square, MAPS) == [14.0, 0.5]


def test_every_choice_of_the_spec_has_its_function() -> None:
    assert set(GOODNESS) == {"mean_square", "sum_square"}
    assert GOODNESS["mean_square"] is mean_square
    assert GOODNESS["sum_square"] is sum_square


def test_even_groups_by_hand() -> None:
    """(1, 2), (3, 0) and (1, 1); the maps' channels are groups of two numbers each."""
    neurons = torch.tensor([[1.0, 2.0, 3.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 0.0, 0.0, 4.0]])
    assert _of_groups(mean_square, neurons, 3) == [[2.5, 4.5, 1.0], [0.0, 2.0, 8.0]]
    assert _of_groups(sum_square, neurons, 3) == [[5.0, 9.0, 2.0], [0.0, 4.0, 16.0]]
    assert _of_groups(mean_square, MAPS, 2) == [[2.5, 4.5], [0.0, 0.25]]
    assert _of_groups(sum_square, MAPS, 2) == [[5.0, 9.0], [0.0, 0.5]]


def test_uneven_groups_by_hand() -> None:
    """Of five neurons the first two groups have two and the last has one; so it is with channels."""
    neurons = torch.tensor([[1.0, 2.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.5, 0.5, 1.0]])
    assert _of_groups(mean_square, neurons, 3) == [[2.5, 4.5, 4.0], [0.0, 0.25, 1.0]]
    assert _of_groups(sum_square, neurons, 3) == [[5.0, 9.0, 4.0], [0.0, 0.5, 1.0]]
    maps = neurons.view(2, 5, 1, 1).repeat(1, 1, 2, 3)
    assert _of_groups(mean_square, maps, 3) == [[2.5, 4.5, 4.0], [0.0, 0.25, 1.0]]
    assert _of_groups(sum_square, maps, 3) == [[30.0, 54.0, 24.0], [0.0, 3.0, 6.0]]


@pytest.mark.parametrize("name", GOODNESS)
def test_one_group_is_the_whole(name: str) -> None:
    whole = GOODNESS[name](MAPS)
    assert torch.equal(by_group(GOODNESS[name], MAPS, 1).squeeze(1), whole)
