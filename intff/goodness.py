"""Goodness: how active a unit's output layer is, one number per sample (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Goodness = Callable[[Tensor], Tensor]


def mean_square(activations: Tensor) -> Tensor:
    """The mean of squares, as the author's code has it.

    Args:
        activations: of one unit's output layer, [..., neurons].

    Returns:
        Goodness of each sample, [...].
    """
    return activations.square().mean(dim=-1)


def sum_square(activations: Tensor) -> Tensor:
    """The sum of squares, as the paper's formula has it (section 3.1).

    Args:
        activations: of one unit's output layer, [..., neurons].

    Returns:
        Goodness of each sample, [...].
    """
    return activations.square().sum(dim=-1)


GOODNESS: dict[str, Goodness] = {"mean_square": mean_square, "sum_square": sum_square}
