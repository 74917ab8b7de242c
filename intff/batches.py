"""One epoch's training data: shuffled, shifted, with its negatives, cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


class Movable:
    """Images with black margins, so that each may be cut out a little beside its place.

    Args:
        images: bytes, [images, channels, height, width], on the training device.
        jitter: the largest shift in each direction, in pixels; 0 leaves every image in its place.
    """

    def __init__(self, images: Tensor, jitter: int) -> None:
        self.jitter = jitter
        self._shape = images.shape[1:]
        if jitter:  # and a black image at the end, for a cut is a run of bytes that may reach beyond its own image
            images = pad(images, (*(jitter,) * 4, 0, 0, 0, 1))
        self._wide = images.shape[1:]
        self._size = self._wide.numel()
        self._bytes = images.flatten()

    def starts(self, order: Tensor, generator: Generator) -> Tensor:
        """Where cuts begin: of images in this order, each moved by its own random number of pixels.

        Args:
            order: which image stands where, [n], on the CPU.
            generator: draws the shifts.

        Returns:
            [n], on the CPU.
        """
        if self.jitter == 0:
            return order * self._size
        span = 2 * self.jitter + 1
        shifts = torch.randint(span * span, (len(order),), generator=generator)
        return order * self._size + shifts // span * self._wide[-1] + shifts % span

    def cut(self, starts: Tensor) -> Tensor:
        """Images whose bytes begin there, [...] to bytes, [..., channels, height, width]."""
        runs = self._bytes.as_strided((len(self._bytes) - self._size + 1, self._size), (1, 1))
        _, height, width = self._shape
        cuts = runs.index_select(0, starts.flatten()).view(*starts.shape, *self._wide)
        return cuts[..., :height, :width]

    def batch(self, starts: Tensor, labels: Tensor, negatives: Tensor) -> Batch:
        """A step's data, as floats."""
        return Batch(as_floats(self.cut(starts)), labels, negatives)


@dataclass(frozen=True)
class Shuffled:
    """An epoch's images in its order; each is made when it is asked for, for whoever needs only some at a time."""

    images: Movable
    starts: Tensor

    def __getitem__(self, part: slice) -> Tensor:
        return self.images.cut(self.starts[part])


class Epoch(NamedTuple):
    """Everything random about an epoch."""

    images: Shuffled
    labels: Tensor
    """[images]"""
    negatives: Tensor
    """What they are made of, [images, ...]; see `LocalObjective`"""

    def parts(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Where images begin (see `Movable.batch`), labels and negatives of each step; the last may have fewer."""
        for start in range(0, len(self.labels), size):
            part = slice(start, start + size)
            yield self.images.starts[part], self.labels[part], self.negatives[part]


def draw_epoch(
    images: Movable,
    labels: Tensor,
    *,
    seed: int,
    epoch: int,
    draw_negatives: Callable[[Shuffled, Tensor, Generator], Tensor],
    first: int = 0,
) -> Epoch:
    """Draw all that is random about an epoch, before its first step.

    Args:
        images: to learn from.
        labels: their class numbers, [images], on the training device.
        seed: the spec's.
        epoch: from 1.
        draw_negatives: gives what negatives are made of, for shuffled images, and shuffled labels on the CPU.
        first: the number among `images` of the one that the first label belongs to.
    """
    generator = seeded(seed, "epoch", epoch)
    order = torch.randperm(len(labels), generator=generator)
    shuffled = Shuffled(images, images.starts(order + first, generator).to(labels.device))
    true = labels[order.to(labels.device)]
    return Epoch(shuffled, true, draw_negatives(shuffled, true.cpu(), generator).to(labels.device))


def as_floats(images: Tensor) -> Tensor:
    """Bytes to floats of 0 to 1, of any shape."""
    # In place: bytes that are divided are made floats in memory of their own first.
    return images.to(torch.get_default_dtype()).div_(255)
