"""The layers inside a hidden unit, and how a unit normalises its input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

Scale = Callable[[Tensor, int], Tensor]
"""Maps the sum of squares of an input and its size to the factor that normalises it."""


def l2_scale(sum_of_squares: Tensor, size: int) -> Tensor:
    """One over the L2 norm plus 1e-4, as in the author's code; `size` plays no part."""
    del size
    return 1 / (sum_of_squares.sqrt() + 1e-4)


def rms_scale(sum_of_squares: Tensor, size: int) -> Tensor:
    """One over the root of the mean square; 1e-6 keeps an input of zeros at zero."""
    return torch.rsqrt(sum_of_squares / size + 1e-6)


SCALES: dict[str, Scale] = {"l2": l2_scale, "rms": rms_scale}


def dense(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A fully connected layer with Glorot-uniform weights and zero biases, the author's initialisation."""
    # Begun without memory: its own initialisation would draw from the caller's global random state.
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
