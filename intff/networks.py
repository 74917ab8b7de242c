"""The networks: a sequence of hidden units that scores labels by goodness, and a network for backpropagation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from intff.goodness import Goodness
from intff.labels import LabelEncoding, Prepared
from intff.layers import Layer
from intff.normalization import Normalization, normalized
from intff.units import HiddenUnit

_MAP = 4  # dimensions of activations with rows and columns


class Scores(NamedTuple):
    """A network's outputs for a batch of images; None for outputs that it does not have."""

    unit_goodness: Tensor | None
    """[batch, units, labels]"""
    goodness: Tensor | None
    """The weighted sum over the hidden units, [batch, labels] (paper section 3.4)"""
    logits: Tensor | None
    """Logits of the softmax classifier, [batch, labels]"""

    @property
    def ranking(self) -> Tensor:
        """The scores that determine the predicted label, [batch, labels]: logits if there are any, else goodness."""
        ranking = self.goodness if self.logits is None else self.logits
        assert ranking is not None
        return ranking


class GoodnessNetwork(nn.Module):
    """A sequence of hidden units without gradient flow between them (paper section 6.2).

    Args:
        units: from input to output.
        encoding: how labels are combined with images.
        goodness: the goodness function.
        classes: number of classes.
        head: the softmax layer on all units' activations for a neutral label (section 3.5), or None.
        normalization: of each unit's activations before the head.
        unit_weights: weight of each unit in the score, [units].
    """

    unit_weights: Tensor

    def __init__(
        self,
        units: Sequence[HiddenUnit],
        *,
        encoding: LabelEncoding,
        goodness: Goodness,
        classes: int,
        head: nn.Linear | None,
        normalization: Normalization,
        unit_weights: Tensor,
    ) -> None:
        super().__init__()
        self.units = cast("Sequence[HiddenUnit]", nn.ModuleList(units))
        self.encoding = encoding
        self.goodness = goodness
        self.classes = classes
        self.head = head
        self.normalization = normalization
        self.register_buffer("unit_weights", unit_weights)

    def unit(self, number: int, inputs: Tensor, labels: Tensor | None) -> Tensor:
        """One unit's activations.

        Args:
            number: index of the unit, from 0.
            inputs: images, [batch, channels, height, width], or the activations of the previous unit, [rows, ...].
            labels: class numbers, [batch or 1, variants]; None for a neutral label.

        Returns:
            Activations, [rows, ...]; rows are images times variants, or just images if labels are groups.
        """
        unit, encoding = self.units[number], self.encoding
        if number == 0:
            return encoding.first(unit, encoding.prepared(unit, inputs, labels), labels)
        return encoding.later(unit, inputs, labels)

    def activations(self, images: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
        """Yield each unit's activations; a unit's autograd graph ends at its own input.

        Args:
            images: floats from 0 to 1, [batch, channels, height, width].
            labels: class numbers, [batch or 1, variants]; None for a neutral label.

        Yields:
            One tensor per unit, [rows, ...], as soon as it is computed, while it is still in cache.
        """
        return self._activations(self.encoding.prepared(self.units[0], images, labels), labels)

    def label_goodness(self, images: Tensor, labels: Tensor) -> Tensor:
        """The goodness of the given labels of each image at every unit.

        Args:
            images: [batch, channels, height, width].
            labels: class numbers, [batch, variants].

        Returns:
            [batch, units, variants]
        """
        return self._goodness(self.encoding.prepared(self.units[0], images, labels), labels)

    def unit_goodness(self, images: Tensor, rows: int | None = None) -> Tensor:
        """The goodness of every label at every unit.

        Args:
            images: [batch, channels, height, width].
            rows: how many rows of activations to compute at once (images times labels, or images if labels are
                groups); None for all at once.

        Returns:
            [batch, units, labels]
        """
        labels = torch.arange(self.classes, device=images.device).unsqueeze(0)
        prepared = self.encoding.prepared(self.units[0], images, labels)
        if rows is None:
            return self._goodness(prepared, labels)
        at_once = max(1, rows // self.encoding.rows(self.classes))
        starts = range(0, max(1, len(images)), at_once)
        return torch.cat([self._goodness(prepared[start : start + at_once], labels) for start in starts])

    def _goodness(self, prepared: Prepared, labels: Tensor) -> Tensor:
        every = self._activations(prepared, labels)
        return torch.stack([self.encoding.goodness(self.goodness, hidden, labels) for hidden in every], dim=1)

    def _activations(self, prepared: Prepared, labels: Tensor | None) -> Iterator[Tensor]:
        hidden = self.encoding.first(self.units[0], prepared, labels)
        yield hidden
        for number in range(1, len(self.units)):
            hidden = self.unit(number, hidden.detach(), labels)
            yield hidden

    def weighted(self, unit_goodness: Tensor) -> Tensor:
        """The weighted sum of the units' goodness, [batch, units, labels] to [batch, labels]."""
        return (unit_goodness * self.unit_weights[:, None]).sum(dim=1)

    def features(self, images: Tensor) -> Tensor:
        """The softmax layer's input, [batch, features], from a pass with a neutral label; detached."""
        outputs = (hidden.detach() for hidden in self.activations(images, labels=None))
        pooled = (hidden.mean(dim=(2, 3)) if hidden.ndim == _MAP else hidden for hidden in outputs)
        return torch.cat([normalized(hidden, self.normalization) for hidden in pooled], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """The softmax layer's logits, [batch, labels]."""
        assert self.head is not None
        logits: Tensor = self.head(self.features(images))
        return logits

    def forward(self, images: Tensor, rows: int | None = None) -> Scores:
        """Score images, [batch, channels, height, width], from 0 to 1; for `rows`, see `unit_goodness`."""
        return self.scores(images, self.unit_goodness(images, rows), rows)

    def scores(self, images: Tensor, unit_goodness: Tensor, rows: int | None = None) -> Scores:
        """Score images whose goodness at each unit is known, [batch, units, labels]."""
        logits = None if self.head is None else torch.cat([self.logits(piece) for piece in _pieces(images, rows)])
        return Scores(unit_goodness, self.weighted(unit_goodness), logits)


class BackpropNetwork(nn.Module):
    """Layers and a softmax output layer, trained end to end.

    Args:
        layers: hidden layers from input to output.
        head: the output layer.
        normalization: of the images; None for none.
    """

    def __init__(self, layers: Sequence[Layer], head: nn.Linear, normalization: Normalization | None = None) -> None:
        super().__init__()
        self.layers = cast("Sequence[Layer]", nn.ModuleList(layers))
        self.head = head
        self.normalization = normalization

    def logits(self, images: Tensor) -> Tensor:
        """Logits of images, [batch, channels, height, width] to [batch, labels]."""
        hidden = images if self.normalization is None else normalized(images, self.normalization)
        for layer in self.layers:
            hidden = layer(hidden)
        logits: Tensor = self.head(hidden.flatten(1))
        return logits

    def forward(self, images: Tensor, rows: int | None = None) -> Scores:
        """Score images, [batch, channels, height, width], from 0 to 1, `rows` images at once; None for all."""
        return Scores(None, None, torch.cat([self.logits(piece) for piece in _pieces(images, rows)]))


Network = GoodnessNetwork | BackpropNetwork


def _pieces(images: Tensor, rows: int | None) -> Sequence[Tensor]:
    return [images] if rows is None else torch.split(images, rows)
