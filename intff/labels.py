"""The label overlay: the first pixels of an image, one per class, hold the label (paper section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class Overlay:
    """Zeroes the first `classes` pixels and sets the label's to `value`."""

    classes: int
    value: float

    def blank(self, images: Tensor) -> Tensor:
        """Flat float images with the label's pixels zeroed, [batch, pixels] to the same."""
        return pad(images[:, self.classes :], (self.classes, 0))

    def pixels(self, labels: Tensor) -> Tensor:
        """What the label's pixels hold.

        Args:
            labels: class numbers, [...].

        Returns:
            The first pixels of an overlaid image, [..., classes].
        """
        # Not torch's one_hot, which looks at the labels first and makes a GPU wait.
        return (labels.unsqueeze(-1) == torch.arange(self.classes, device=labels.device)) * self.value

    def neutral(self) -> Tensor:
        """The pixels of no label in particular: each class's has its share of `value`, [classes]."""
        return torch.full((self.classes,), self.value / self.classes)

    def apply(self, blank: Tensor, labels: Tensor) -> Tensor:
        """Overlay labels on blanked images, plainly.

        Args:
            blank: flat images whose label pixels are zero, [batch, pixels].
            labels: class numbers, [batch, variants].

        Returns:
            Overlaid images, [batch, variants, pixels].
        """
        images = blank.unsqueeze(1).repeat(1, labels.shape[1], 1)
        images[:, :, : self.classes] = self.pixels(labels)
        return images
