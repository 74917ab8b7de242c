"""Goodness: how active a unit's output layer is, as one number per sample (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

Goodness = Callable[[Tensor], Tensor]


def mean_square(activations: Tensor) -> Tensor:
    """The mean of the squared activations, as in the author's code.

    Args:
        activations: of one unit's output layer, [rows, ...].

    Returns:
        Goodness of each row, [rows].
    """
    return sum_square(activations) / activations.flatten(1).shape[1]


def sum_square(activations: Tensor) -> Tensor:
    """The sum of the squared activations, as in the paper's formula (section 3.1).

    Args:
        activations: of one unit's output layer, [rows, ...].

    Returns:
        Goodness of each row, [rows].
    """
    flat = activations.flatten(1)
    # With gradients, a dot product: its backward pass takes half as long as that of a norm or of a square and a sum.
    # Without gradients, a norm: it needs one pass and allocates no intermediate tensor.
    squares: Tensor = vecdot(flat, flat) if torch.is_grad_enabled() else vector_norm(flat, dim=1).square()
    return squares


GOODNESS: dict[str, Goodness] = {"mean_square": mean_square, "sum_square": sum_square}


def by_group(goodness: Goodness, activations: Tensor, groups: int) -> Tensor:
    """Goodness of each group of neurons or channels; where they do not divide evenly, the first groups have one more.

    Args:
        goodness: maps the activations of one group to its goodness.
        activations: of one unit's output layer, [rows, neurons] or [rows, channels, height, width].
        groups: the number of groups.

    Returns:
        [rows, groups]
    """
    if activations.shape[1] % groups == 0:
        size = activations.flatten(1).shape[1] // groups
        return goodness(activations.reshape(len(activations) * groups, size)).view(-1, groups)
    return torch.stack([goodness(part) for part in torch.tensor_split(activations, groups, dim=1)], dim=1)
