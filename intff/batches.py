"""The training data of one epoch: shuffled, shifted at random, with negatives, and split into batches."""

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
    """Floats from 0 to 1, [batch, channels, height, width]"""
    labels: Tensor
    """[batch]"""
    negatives: Tensor
    """Source of the negative data, [batch, ...]; see `LocalObjective`"""


class Movable:
    """Images with black margins, from which shifted images are cropped.

    Args:
        images: bytes, [images, channels, height, width], on the training device.
        jitter: the largest shift in each direction, in pixels; 0 for no shifts.
    """

    def __init__(self, images: Tensor, jitter: int) -> None:
        self.jitter = jitter
        self._shape = images.shape[1:]
        if jitter:  # plus a black image at the end: a crop is a run of bytes that may pass the end of its image
            images = pad(images, (*(jitter,) * 4, 0, 0, 0, 1))
        self._wide = images.shape[1:]
        self._size = self._wide.numel()
        self._bytes = images.flatten()

    def starts(self, order: Tensor, generator: Generator) -> Tensor:
        """Byte offsets of crops of images, each shifted by its own random number of pixels.

        Args:
            order: image numbers, [n], on the CPU.
            generator: draws the shifts.
        """
        if self.jitter == 0:
            return order * self._size
        span = 2 * self.jitter + 1
        shifts = torch.randint(span * span, (len(order),), generator=generator)
        return order * self._size + shifts // span * self._wide[-1] + shifts % span

    def cut(self, starts: Tensor) -> Tensor:
        """Crop the images at byte offsets, [...], to bytes, [..., channels, height, width]."""
        runs = self._bytes.as_strided((len(self._bytes) - self._size + 1, self._size), (1, 1))
        _, height, width = self._shape
        cuts = runs.index_select(0, starts.flatten()).view(*starts.shape, *self._wide)
        return cuts[..., :height, :width]

    def batch(self, starts: Tensor, labels: Tensor, negatives: Tensor) -> Batch:
        """The data of one step, with images as floats."""
        return Batch(as_floats(self.cut(starts)), labels, negatives)


@dataclass(frozen=True)
class Shuffled:
    """An epoch's images in shuffled order, cropped on access for callers that need only some at a time."""

    images: Movable
    starts: Tensor

    def __getitem__(self, part: slice) -> Tensor:
        return self.images.cut(self.starts[part])


class Epoch(NamedTuple):
    """All random data of an epoch."""

    images: Shuffled
    labels: Tensor
    """[images]"""
    negatives: Tensor
    """Source of the negative data, [images, ...]; see `LocalObjective`"""

    def parts(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the offsets (for `Movable.batch`), labels and negatives of each step; the last may be smaller."""
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
    """Draw all random data of an epoch, before its first step.

    Args:
        images: the training images, possibly of several runs.
        labels: class numbers of this run's images, [images], on the training device.
        seed: the spec's seed.
        epoch: from 1.
        draw_negatives: maps shuffled images, shuffled labels on the CPU and a generator to the source of the negatives.
        first: the position in `images` of the image that the first label belongs to.
    """
    generator = seeded(seed, "epoch", epoch)
    order = torch.randperm(len(labels), generator=generator)
    shuffled = Shuffled(images, images.starts(order + first, generator).to(labels.device))
    true = labels[order.to(labels.device)]
    return Epoch(shuffled, true, draw_negatives(shuffled, true.cpu(), generator).to(labels.device))


def as_floats(images: Tensor) -> Tensor:
    """Convert bytes of any shape to floats from 0 to 1."""
    # Converting first and dividing in place saves the temporary tensor of dividing bytes.
    return images.to(torch.get_default_dtype()).div_(255)
