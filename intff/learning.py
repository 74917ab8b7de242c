"""The training step: a batch's gradients, from explicit formulas or from autograd, and Adam's update."""

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
    """Trains a network on one batch after another.

    Args:
        spec: determines the objective.
        network: on the training device.
    """

    def __init__(self, spec: TrainSpec, network: Network) -> None:
        self._training = spec.training
        self._objective = build_objective(spec, network)
        self.optimizer = Adam(network.parameters())
        # On a GPU, autograd is used: only it was measured and tested there.
        self._on_cpu = next(network.parameters()).device.type == "cpu"
        self._chain_rule = ChainRule(self._objective) if self._on_cpu and applies_to(self._objective) else None

    @torch.enable_grad()
    def step(self, batch: Batch) -> StepLosses:
        """Train on a batch, and return the losses before each unit's last step; also works under `torch.no_grad`."""
        losses = self._step(batch)
        if self._on_cpu:
            self.optimizer.drop_tiny_moments()
        return losses

    def _step(self, batch: Batch) -> StepLosses:
        objective, steps = self._objective, self._training.steps_per_unit
        if self._training.unit_order == "one_by_one" and isinstance(objective, LocalObjective):
            if self._chain_rule is not None:
                return self._chain_rule.one_by_one(*batch, step=self.optimizer.step_by, steps=steps)
            return objective.one_by_one(*batch, step=self._descend, steps=steps)
        # Only backpropagation reaches this with several steps: units that are trained together take one.
        for _ in range(steps):
            losses = self._together(batch)
        return losses

    def _together(self, batch: Batch) -> StepLosses:
        if self._chain_rule is None:
            losses = self._objective(*batch)
            self._descend(losses.total)
            return losses
        losses, gradients = self._chain_rule.gradients(*batch)
        self.optimizer.step_by(gradients)
        return losses

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
