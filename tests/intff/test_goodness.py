import torch

from intff.goodness import GOODNESS, mean_square, sum_square

ACTIVATIONS = torch.tensor([[[1.0, 2.0], [3.0, 0.0]], [[0.0, 0.0], [0.5, 0.5]]])


def test_mean_square_by_hand() -> None:
    assert mean_square(ACTIVATIONS).tolist() == [[2.5, 4.5], [0.0, 0.25]]


def test_sum_square_by_hand() -> None:
    assert sum_square(ACTIVATIONS).tolist() == [[5.0, 9.0], [0.0, 0.5]]


def test_every_choice_of_the_spec_has_its_function() -> None:
    assert set(GOODNESS) == {"mean_square", "sum_square"}
    assert GOODNESS["mean_square"] is mean_square
    assert GOODNESS["sum_square"] is sum_square
