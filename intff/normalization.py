"""Input normalisations of a unit, each defined by an offset and a factor computed from the input's sums."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import layer_norm

EPSILON = 1e-6
"""Added to a mean square before taking its root, so that an input of zeros stays zero."""

Normalization = Callable[[Tensor | None, Tensor, int], tuple[Tensor | None, Tensor]]
"""Maps the sum of an input's values (if needed), the sum of their squares and their number to the value to subtract
(None for zero) and the factor to multiply by."""


def l2(total: Tensor | None, squares: Tensor, size: int) -> tuple[None, Tensor]:
    """Divide by the L2 norm plus 1e-4, as in the author's code."""
    del total, size
    return None, 1 / (squares.sqrt() + 1e-4)


def rms(total: Tensor | None, squares: Tensor, size: int) -> tuple[None, Tensor]:
    """Divide by the root of the mean square."""
    del total
    return None, torch.rsqrt(squares / size + EPSILON)


def layer(total: Tensor | None, squares: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Subtract the mean and divide by the standard deviation, as layer normalisation does."""
    assert total is not None
    mean = total / size
    return mean, torch.rsqrt((squares / size - mean.square()).clamp_min(0) + EPSILON)


NORMALIZATIONS: dict[str, Normalization] = {"l2": l2, "rms": rms, "layer": layer}


def needs_total(normalization: Normalization) -> bool:
    """Whether a normalisation needs the sum of an input's values."""
    return normalization is layer


def normalized(inputs: Tensor, normalization: Normalization) -> Tensor:
    """Normalise each row over all its values; the shape [rows, ...] is kept."""
    flat = inputs.flatten(1)
    if normalization is layer:  # torch's implementation centres before squaring, which avoids cancellation
        return layer_norm(flat, flat.shape[1:], eps=EPSILON).view_as(inputs)
    return (flat * scale(flat, normalization)).view_as(inputs)


def scale(rows: Tensor, normalization: Normalization, squares: Tensor | None = None) -> Tensor:
    """The factor of each row, for a normalisation that does not need the sum of values.

    Args:
        rows: [rows, values].
        normalization: the normalisation.
        squares: the sum of each row's squares, [rows], if already known.

    Returns:
        Factors, [rows, 1].
    """
    if squares is None:
        squares = vector_norm(rows, dim=1).square()  # a norm needs one pass over the rows, a sum of squares two
    return normalization(None, squares.unsqueeze(1), rows.shape[1])[1]
