"""What a training step minimises: the sum of the units' local losses, or cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intff.losses import LocalLoss
from intff.networks import BackpropNetwork, GoodnessNetwork


class StepLosses(NamedTuple):
    """One training step's losses; `total` is what is differentiated, the rest is detached."""

    total: Tensor
    units: Tensor
    """[units]"""
    positive: Tensor
    """Mean goodness of the positive data, [units], or [0] without units"""
    negative: Tensor
    """Mean goodness of the negative data, [units], or [0] without units"""


@dataclass(frozen=True)
class LocalObjective:
    """Each unit's local loss on positive and negative data (paper sections 3.1 and 3.2).

    The units are cut from each other, so the gradient of the sum is each unit's own (section 6.2).
    """

    network: GoodnessNetwork
    loss: LocalLoss
    theta: float

    def __call__(self, images: Tensor, labels: Tensor, negatives: Tensor) -> StepLosses:
        """Losses of one batch.

        Args:
            images: flat float images, [batch, pixels].
            labels: true class numbers, [batch].
            negatives: negative class numbers, [batch, negatives].
        """
        network = self.network
        blank = network.overlay.blank(images)
        variants = torch.cat([labels.unsqueeze(1), negatives], dim=1)
        outputs = network.activations(blank, network.overlay.pixels(variants))
        goodness = torch.stack([network.goodness(hidden) for hidden in outputs])  # [units, batch, variants]
        positive, negative = goodness[..., 0], goodness[..., 1:]
        losses = self.loss(positive, negative, self.theta).mean(dim=1)  # [units]
        total = losses.sum()
        if network.head is not None:
            total = total + cross_entropy(network.logits(blank), labels)
        return StepLosses(
            total,
            losses.detach(),
            positive.detach().mean(dim=1),
            negative.detach().mean(dim=(1, 2)),
        )


@dataclass(frozen=True)
class CrossEntropyObjective:
    """Cross-entropy of the softmax output, the loss of backpropagation."""

    network: BackpropNetwork

    def __call__(self, images: Tensor, labels: Tensor, negatives: Tensor) -> StepLosses:
        """Losses of one batch; `negatives` is empty and ignored."""
        del negatives
        loss = cross_entropy(self.network.logits(images), labels)
        none = loss.detach().new_empty(0)
        return StepLosses(loss, loss.detach().unsqueeze(0), none, none)


Objective = LocalObjective | CrossEntropyObjective
