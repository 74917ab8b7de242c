"""The objectives of a training step: the sum of the units' local losses, or cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intff.batches import as_floats
from intff.losses import LocalLoss
from intff.negatives import hardest_labels
from intff.networks import BackpropNetwork, GoodnessNetwork


class StepLosses(NamedTuple):
    """The losses of one training step; only `total` is differentiable, the rest are detached."""

    total: Tensor
    units: Tensor
    """[units]"""
    positive: Tensor
    """Mean goodness of the positive data, [units]; empty for backpropagation"""
    negative: Tensor
    """Mean goodness of the negative data, [units]; empty for backpropagation"""


@dataclass(frozen=True)
class LocalObjective:
    """Each unit's local loss on positive and negative data (paper sections 3.1 and 3.2).

    No gradient flows between units, so each unit's gradient of the sum is that of its own loss (section 6.2).

    Args:
        network: the network to train.
        loss: the local loss.
        theta: the goodness threshold.
        source: what a batch's `negatives` contain: labels, Gumbel noise for drawing hard labels, or images.
        hard_labels: number of hard labels for each image.
    """

    network: GoodnessNetwork
    loss: LocalLoss
    theta: float
    source: Literal["labels", "hard_labels", "images"] = "labels"
    hard_labels: int = 1

    def __call__(self, images: Tensor, labels: Tensor, negatives: Tensor) -> StepLosses:
        """Losses of one batch.

        Args:
            images: floats from 0 to 1, [batch, channels, height, width].
            labels: true class numbers, [batch].
            negatives: class numbers, [batch, negatives], noise, [batch, classes], or images as bytes, by `source`.
        """
        network = self.network
        images, labels, variants = self.data(images, labels, negatives)
        losses, positive, negative = self._losses(network.label_goodness(images, variants))
        total = losses.sum()
        if network.head is not None:
            total = total + self._head_loss(images, labels)
        return StepLosses(total, losses.detach(), positive, negative)

    def one_by_one(
        self, images: Tensor, labels: Tensor, negatives: Tensor, step: Callable[[Tensor], None], steps: int
    ) -> StepLosses:
        """Train the units in turn on a batch, each on the output of the updated previous unit.

        Args:
            images: see `__call__`.
            labels: see `__call__`.
            negatives: see `__call__`.
            step: takes a loss and updates the weights that it depends on.
            steps: optimizer steps of each unit.
        """
        network = self.network
        images, labels, variants = self.data(images, labels, negatives)
        hidden, last = images, []
        for number in range(len(network.units)):
            for _ in range(steps):
                activations = network.unit(number, hidden, variants)
                goodness = network.encoding.goodness(network.goodness, activations, variants)
                losses, positive, negative = self._losses(goodness.unsqueeze(1))
                step(losses.sum())
            last.append((losses.detach(), positive, negative))
            if number + 1 < len(network.units):
                with torch.no_grad():
                    hidden = network.unit(number, hidden, variants)
        units, positives, negatives = (torch.cat(parts) for parts in zip(*last, strict=True))
        total = units.sum()
        if network.head is not None:
            for _ in range(steps):
                loss = self._head_loss(images, labels)
                step(loss)
            total = total + loss.detach()
        return StepLosses(total, units, positives, negatives)

    def data(self, images: Tensor, labels: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images, their true labels, and the labels to pair with each image, the positive one first.

        With images as the source, the negative images follow the positive ones, each paired with the true label.
        """
        network, true = self.network, labels.unsqueeze(1)
        if self.source == "images":
            return torch.cat([images, as_floats(negatives)]), labels, true.repeat(2, 1)
        if self.source == "hard_labels":
            with torch.no_grad():
                scores = network.unit_goodness(images).sum(dim=1)
            negatives = hardest_labels(scores, true, negatives, self.hard_labels)
        return images, labels, torch.cat([true, negatives], dim=1)

    def _losses(self, goodness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each unit's loss, mean positive and mean negative goodness, [units], from [images, units, variants]."""
        if self.source == "images":
            positive, negative = goodness.chunk(2)
            positive = positive.squeeze(2)
        else:
            positive, negative = goodness[..., 0], goodness[..., 1:]
        # Computed unit by unit, so that each gets the same gradient as when trained alone, bit for bit.
        each = zip(positive.unbind(1), negative.unbind(1), strict=True)
        losses = torch.stack([self.loss(*of_unit, self.theta).mean() for of_unit in each])
        return losses, positive.detach().mean(dim=0), negative.detach().mean(dim=(0, 2))

    def _head_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self.network.logits(images[: len(labels)]), labels)


@dataclass(frozen=True)
class CrossEntropyObjective:
    """Cross-entropy of the softmax output, for backpropagation."""

    network: BackpropNetwork

    def __call__(self, images: Tensor, labels: Tensor, negatives: Tensor) -> StepLosses:
        """Losses of one batch; `negatives` is empty and ignored."""
        del negatives
        loss = cross_entropy(self.network.logits(images), labels)
        none = loss.detach().new_empty(0)
        return StepLosses(loss, loss.detach().unsqueeze(0), none, none)


Objective = LocalObjective | CrossEntropyObjective
