"""Label encodings: a label as pixels of the image, as a vector in every unit, or as a group of each unit's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from intff.goodness import Goodness, by_group
from intff.layers import Dense
from intff.units import HiddenUnit, Overlaid

Prepared = Tensor | Overlaid
"""Images that can be sliced into chunks"""


class LabelEncoding(Protocol):
    """How a network combines labels with images."""

    def rows(self, variants: int) -> int:
        """The number of rows of activations per image, for a number of labels."""

    def prepared(self, unit: HiddenUnit, images: Tensor, labels: Tensor | None) -> Prepared:
        """Prepare images for `first`, doing the work that is more efficient on many images at once.

        Args:
            unit: the first unit.
            images: floats from 0 to 1, [batch, channels, height, width].
            labels: class numbers, [batch or 1, variants]; None for a neutral label.
        """

    def first(self, unit: HiddenUnit, prepared: Prepared, labels: Tensor | None) -> Tensor:
        """The first unit's activations, [rows, ...], for the labels given to `prepared`; see `rows`."""

    def later(self, unit: HiddenUnit, hidden: Tensor, labels: Tensor | None) -> Tensor:
        """A later unit's activations, [rows, ...], for the same labels."""

    def goodness(self, goodness: Goodness, activations: Tensor, labels: Tensor) -> Tensor:
        """The goodness of each label at one unit, [batch, variants], given the unit's activations."""


@dataclass(frozen=True)
class Overlay:
    """Sets the first `classes` pixels to zero and the label's pixel to `value` (paper section 3.3)."""

    classes: int
    value: float

    def rest(self, images: Tensor) -> Tensor:
        """The pixels that a label does not overwrite, [batch, ...] to [batch, pixels - classes]; a view."""
        return images.flatten(1)[:, self.classes :]

    def pixels(self, labels: Tensor | None, device: torch.device | None = None) -> Tensor:
        """The values of the label pixels.

        Args:
            labels: class numbers, [...]; None for a neutral label, which sets each pixel to `value / classes`.
            device: where to create them if there are no labels.

        Returns:
            The first pixels of an overlaid image, [..., classes], or [1, 1, classes] for a neutral label.
        """
        if labels is None:
            return torch.full((1, 1, self.classes), self.value / self.classes, device=device)
        # torch's one_hot would inspect the labels first, which synchronises with the GPU.
        return (labels.unsqueeze(-1) == torch.arange(self.classes, device=labels.device)) * self.value

    def apply(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Overlay labels on copies of images.

        Args:
            images: [batch, ...].
            labels: class numbers, [batch or 1, variants]; None for a neutral label.

        Returns:
            Overlaid images, [batch * variants, ...].
        """
        rest, pixels = self.rest(images), self.pixels(labels, images.device).to(images)
        shape = (len(rest), pixels.shape[1])
        overlaid = torch.cat([pixels.expand(*shape, -1), rest[:, None].expand(*shape, -1)], dim=-1)
        return overlaid.reshape(-1, *images.shape[1:])

    def rows(self, variants: int) -> int:
        """See `LabelEncoding`."""
        return variants

    def prepared(self, unit: HiddenUnit, images: Tensor, labels: Tensor | None) -> Prepared:
        """See `LabelEncoding`."""
        if isinstance(unit.layers[0], Dense):
            return unit.overlaid(self.rest(images), self.pixels(labels, images.device).to(images))
        return images

    def first(self, unit: HiddenUnit, prepared: Prepared, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        if isinstance(prepared, Overlaid):
            return unit.forward_overlaid(prepared)
        return unit.forward(self.apply(prepared, labels))

    def later(self, unit: HiddenUnit, hidden: Tensor, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        del labels  # the activations already depend on them
        return unit.forward(hidden)

    def goodness(self, goodness: Goodness, activations: Tensor, labels: Tensor) -> Tensor:
        """See `LabelEncoding`."""
        return goodness(activations).view(-1, labels.shape[1])


class Embedding:
    """A learned vector for each label in every unit."""

    def rows(self, variants: int) -> int:
        """See `LabelEncoding`."""
        return variants

    def prepared(self, unit: HiddenUnit, images: Tensor, labels: Tensor | None) -> Prepared:
        """See `LabelEncoding`."""
        del unit, labels
        return images

    def first(self, unit: HiddenUnit, prepared: Prepared, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        assert isinstance(prepared, Tensor)
        return unit.forward_embedded(prepared, labels)

    def later(self, unit: HiddenUnit, hidden: Tensor, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        if labels is not None:
            images = len(hidden) // labels.shape[1]
            labels = labels.expand(images, -1).reshape(-1, 1)
        return unit.forward_embedded(hidden, labels)

    def goodness(self, goodness: Goodness, activations: Tensor, labels: Tensor) -> Tensor:
        """See `LabelEncoding`."""
        return goodness(activations).view(-1, labels.shape[1])


@dataclass(frozen=True)
class Groups:
    """One group of neurons or channels of each unit's output per class; the input does not contain the label."""

    classes: int

    def rows(self, variants: int) -> int:
        """See `LabelEncoding`."""
        del variants
        return 1

    def prepared(self, unit: HiddenUnit, images: Tensor, labels: Tensor | None) -> Prepared:
        """See `LabelEncoding`."""
        del unit, labels
        return images

    def first(self, unit: HiddenUnit, prepared: Prepared, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        del labels
        assert isinstance(prepared, Tensor)
        return unit.forward(prepared)

    def later(self, unit: HiddenUnit, hidden: Tensor, labels: Tensor | None) -> Tensor:
        """See `LabelEncoding`."""
        del labels
        return unit.forward(hidden)

    def goodness(self, goodness: Goodness, activations: Tensor, labels: Tensor) -> Tensor:
        """See `LabelEncoding`."""
        found = by_group(goodness, activations, self.classes)
        return found.gather(1, labels.expand(len(found), -1))
