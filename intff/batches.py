"""One epoch's training data: shuffled, shifted, with its negative labels, cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from intff.seeds import seeded


class Batch(NamedTuple):
    """One training step's data."""

    images: Tensor
    """Floats of 0 to 1, [batch, channels, height, width]"""
    labels: Tensor
    """[batch]"""
    negatives: Tensor
    """What they are made of, [batch, ...]; see `LocalObjective`"""


def epoch_batches(
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    jitter: int,
    seed: int,
    epoch: int,
    draw_negatives: Callable[[Tensor, Tensor, Generator], Tensor],
) -> Iterator[Batch]:
    """Everything random about an epoch is drawn here, before its first step.

    Args:
        images: bytes, [images, channels, height, width], on the training device.
        labels: class numbers, [images], on the training device.
        batch_size: the last batch may be smaller.
        jitter: the largest shift of an image, in pixels.
        seed: the spec's.
        epoch: from 1.
        draw_negatives: gives what negatives are made of, for shuffled images, and shuffled labels on the CPU.
    """
    generator = seeded(seed, "epoch", epoch)
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order.to(labels.device)]
    gathered = shift(images, order, jitter, generator)
    negatives = draw_negatives(gathered, shuffled.cpu(), generator).to(labels.device)
    for start in range(0, len(order), batch_size):
        part = slice(start, start + batch_size)
        yield Batch(as_floats(gathered[part]), shuffled[part], negatives[part])


def shift(images: Tensor, order: Tensor, jitter: int, generator: Generator) -> Tensor:
    """Images in a new order, each moved by its own random number of pixels; what comes in is black.

    Args:
        images: [images, channels, height, width].
        order: which image stands where, [n].
        jitter: the largest shift in each direction; 0 only reorders.
        generator: draws the shifts.

    Returns:
        [n, channels, height, width], of the images' type and device.
    """
    where = order.to(images.device)
    if jitter == 0:
        return images[where]
    height, width = images.shape[-2:]
    span = 2 * jitter + 1
    shifts = torch.randint(span * span, (len(order),), generator=generator)
    padded = pad(images, (jitter,) * 4)
    moved = torch.empty((len(order), *images.shape[1:]), dtype=images.dtype, device=images.device)
    for number in range(span * span):
        down, right = divmod(number, span)
        chosen = (shifts == number).nonzero().squeeze(1).to(images.device)
        moved[chosen] = padded[where[chosen], :, down : down + height, right : right + width]
    return moved


def as_floats(images: Tensor) -> Tensor:
    """Bytes to floats of 0 to 1, of any shape."""
    return images.to(torch.float32).div_(255)
