"""A training step: a batch's gradients, by the chain rule written out or by autograd, and what Adam makes of them."""

from __future__ import annotations

import torch
from torch import Tensor

from intff.adam import Adam
from intff.batches import Batch
from intff.build import build_objective
from intff.chain_rule import ChainRule, applies_to
from intff.networks import Network
from intff.objectives import LocalObjective, StepLosses
from intff.spec import TrainSpec


class Learner:
    """Lets a network learn from one batch after another.

    Args:
        spec: says what is minimised.
        network: on the training device.
    """

    def __init__(self, spec: TrainSpec, network: Network) -> None:
        self._training = spec.training
        self._objective = build_objective(spec, network)
        self.optimizer = Adam(network.parameters())
        # On a GPU it is autograd that was measured and tested.
        self._on_cpu = next(network.parameters()).device.type == "cpu"
        self._chain_rule = ChainRule(self._objective) if self._on_cpu and applies_to(self._objective) else None

    @torch.enable_grad()
    def step(self, batch: Batch) -> StepLosses:
        """One step, and its losses before it; the caller may have switched gradients off (`torch.no_grad`)."""
        losses = self._step(batch)
        if self._on_cpu:
            self.optimizer.drop_tiny_moments()
        return losses

    def _step(self, batch: Batch) -> StepLosses:
        objective, chain_rule, training = self._objective, self._chain_rule, self._training
        if training.unit_order == "one_by_one" and isinstance(objective, LocalObjective):
            if chain_rule is not None:
                return chain_rule.one_by_one(*batch, step=self.optimizer.step_by, steps=training.steps_per_unit)
            return objective.one_by_one(*batch, step=self._descend, steps=training.steps_per_unit)
        if chain_rule is not None:
            losses, gradients = chain_rule.gradients(*batch)
            self.optimizer.step_by(gradients)
        else:
            losses = objective(*batch)
            self._descend(losses.total)
        return losses

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
