"""Gradients of a training step for networks of dense layers, computed by explicit formulas instead of autograd.

They equal autograd's up to rounding. If the kernels of a step take only a few milliseconds, autograd's overhead is a
third of the step. Local losses do not need it: gradients flow from a unit's goodness back to its input and no further
(paper sections 3.2 and 6.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from intff import chains
from intff.chains import Chain, Gradients, Softmax
from intff.derivatives import OF_ACTIVATIONS, OF_LOSSES, of_goodness, of_group_goodness
from intff.goodness import GOODNESS, by_group
from intff.labels import Groups
from intff.layers import Dense, Layer
from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.objectives import CrossEntropyObjective, LocalObjective, Objective, StepLosses


def applies_to(objective: Objective) -> bool:
    """Whether the network has only dense layers, and all derivatives are implemented here."""
    if isinstance(objective, CrossEntropyObjective):
        return _are_dense(objective.network.layers)
    network = objective.network
    known = network.goodness in GOODNESS.values() and objective.loss in OF_LOSSES
    return known and all(_are_dense(unit.layers) for unit in network.units)


def _are_dense(layers: Iterable[Layer]) -> bool:
    return all(isinstance(layer, Dense) and layer.activation in OF_ACTIVATIONS for layer in layers)


class ChainRule:
    """Computes an objective's losses and gradients.

    Args:
        objective: one for which `applies_to` is true.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._found: Gradients = {}
        network: Network = objective.network
        self._head = None if network.head is None else Softmax(network.head, self._found)
        if isinstance(network, BackpropNetwork):
            self._chains = [chains.of_all_layers(network, self._found)]
        else:
            self._chains = [chains.of_unit(network, number, self._found) for number in range(len(network.units))]

    @torch.inference_mode()
    def gradients(self, images: Tensor, labels: Tensor, negatives: Tensor) -> tuple[StepLosses, Gradients]:
        """The losses of a batch, and the gradient of their total with respect to each of the network's parameters.

        Args:
            images: floats from 0 to 1, [batch, channels, height, width].
            labels: true class numbers, [batch].
            negatives: source of the negative data, [batch, ...]; see `LocalObjective`.
        """
        objective = self._objective
        if isinstance(objective, CrossEntropyObjective):
            return self._backpropagated(images, labels), self._found
        images, labels, variants = objective.data(images, labels, negatives)
        hidden, losses = images, _Losses()
        for chain in self._chains:
            hidden = chain.forward(hidden, variants)
            losses.add(*self._look(objective, chain, hidden, variants))
        if self._head is not None:
            losses.entropy = self._of_head(objective, images, labels)
        return losses.of_step(), self._found

    @torch.inference_mode()
    def one_by_one(
        self, images: Tensor, labels: Tensor, negatives: Tensor, step: Callable[[Gradients], None], steps: int
    ) -> StepLosses:
        """See `LocalObjective.one_by_one`; `step` receives the gradients of one unit or of the softmax layer."""
        objective = self._objective
        assert isinstance(objective, LocalObjective)
        images, labels, variants = objective.data(images, labels, negatives)
        inputs, losses = images, _Losses()
        for number, chain in enumerate(self._chains):
            for _ in range(steps):
                self._found.clear()
                last = self._look(objective, chain, chain.forward(inputs, variants), variants)
                step(self._found)
            losses.add(*last)
            if number + 1 < len(self._chains):
                inputs = chain.forward(inputs, variants)
        if self._head is not None:
            for _ in range(steps):
                self._found.clear()
                losses.entropy = self._of_head(objective, images, labels)
                step(self._found)
        return losses.of_step()

    def _look(
        self, objective: LocalObjective, chain: Chain, activations: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute a unit's gradients, and return its loss and goodness, [batch, 1 + negatives]."""
        goodness, back = _goodness(objective.network, activations, labels)
        is_pair = objective.source == "images"
        if is_pair:  # positive images come before negative images
            goodness = goodness.view(2, -1).t()
        loss, gradient = OF_LOSSES[objective.loss](goodness, objective.theta)
        chain.back(back(gradient.t().reshape(-1, 1) if is_pair else gradient))
        return loss, goodness

    def _of_head(self, objective: LocalObjective, images: Tensor, labels: Tensor) -> Tensor:
        assert self._head is not None
        return self._head.loss(objective.network.features(images[: len(labels)]), labels)[0]

    def _backpropagated(self, images: Tensor, labels: Tensor) -> StepLosses:
        (chain,), head = self._chains, self._head
        assert head is not None
        loss, gradient = head.loss(chain.forward(images, labels), labels)
        chain.back(gradient @ head.weight)
        none = loss.new_empty(0)
        return StepLosses(loss, loss.unsqueeze(0), none, none)


class _Losses:
    """Collects the units' losses and goodness."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._goodness: list[Tensor] = []
        self.entropy: Tensor | None = None

    def add(self, loss: Tensor, goodness: Tensor) -> None:
        """Add those of one unit."""
        self._losses.append(loss)
        self._goodness.append(goodness)

    def of_step(self) -> StepLosses:
        """Combine them into the losses of the step."""
        losses, goodness = torch.stack(self._losses), torch.stack(self._goodness)  # [units, batch, 1 + negatives]
        total = losses.sum() if self.entropy is None else losses.sum() + self.entropy
        return StepLosses(total, losses, goodness[..., 0].mean(dim=1), goodness[..., 1:].mean(dim=(1, 2)))


def _goodness(network: GoodnessNetwork, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Goodness of each image's labels, [images, labels], and a function that maps its gradient to the activations'."""
    goodness = network.goodness
    if not isinstance(network.encoding, Groups):
        return goodness(hidden).view_as(labels), lambda gradient: of_goodness(goodness, hidden, gradient.flatten())
    found = by_group(goodness, hidden, network.classes)

    def back(gradient: Tensor) -> Tensor:
        return of_group_goodness(goodness, hidden, torch.zeros_like(found).scatter_add_(1, labels, gradient))

    return found.gather(1, labels), back
