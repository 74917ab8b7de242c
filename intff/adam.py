"""Adam with the learning rate as a tensor and a step with little overhead beyond torch's kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-30
"""The update from a smaller moment is lost in rounding, since Adam divides it by at least 1e-8."""
_STEPS_TO_DENORMAL = 100
"""From `_TINY`, a moment that decays by 0.9 per step takes more steps to become denormal, below 1.2e-38."""


class Adam(torch.optim.Adam):
    """torch's fused Adam (arXiv 1412.6980).

    Args:
        weights: the parameters to optimise, all on one device.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        weights = list(weights)
        device = weights[0].device
        on_gpu = device.type == "cuda"
        # A tensor, so that a recorded step reads its current value; the CUDA kernel needs float32.
        rate = torch.zeros((), dtype=torch.float32 if on_gpu else torch.float64, device=device)
        super().__init__(weights, lr=rate, fused=True, capturable=on_gpu)
        self._weights = weights
        self._steps = torch.zeros(len(weights), dtype=torch.float32, device=device)
        self._cleaned = 0
        for weight, steps in zip(weights, self._steps, strict=True):
            self.state[weight] = {
                "step": steps,
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @property
    def rate(self) -> Tensor:
        """The learning rate, to be changed in place."""
        rate: Tensor = self.param_groups[0]["lr"]
        return rate

    @torch.inference_mode()
    def step_by(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Update the weights that have gradients here, with results identical to `step`; for weights on a CPU.

        On a small network, more than half of the time of `step` is Python overhead and the per-weight step counts.
        """
        (group,) = self.param_groups
        beta1, beta2 = group["betas"]
        weights = [weight for weight in self._weights if weight in gradients]
        states = [self.state[weight] for weight in weights]
        for steps in [self._steps] if len(weights) == len(self._weights) else [state["step"] for state in states]:
            steps.add_(1)
        torch._fused_adam_(
            [*weights],
            [gradients[weight] for weight in weights],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    @torch.inference_mode()
    def drop_tiny_moments(self) -> None:
        """Set moments to zero before they become denormal; on a CPU, once every `_STEPS_TO_DENORMAL` steps.

        If the gradients of a weight vanish, its moments decay until they are denormal, which makes arithmetic many
        times slower on some processors. This affects one weight in twelve of a ReLU network after twelve epochs of
        MNIST.
        """
        hundreds = int(self._steps[0]) // _STEPS_TO_DENORMAL
        if hundreds == self._cleaned:
            return
        self._cleaned = hundreds
        for state in self.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                torch.ops.aten.hardshrink(state[name], _TINY, out=state[name])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `torch.optim.Optimizer`; call it before the first step, since a recorded step keeps its tensors."""
        super().load_state_dict(state_dict)
        for weight, steps in zip(self._weights, self._steps, strict=True):
            state = self.state[weight]
            state["step"] = steps.copy_(state["step"])
        self._cleaned = int(self._steps[0]) // _STEPS_TO_DENORMAL
