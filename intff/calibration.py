"""Fits the hidden units' weights in the score to the validation images, since later units often add little."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_STEPS = 100
_PULL = 1e-3  # regularisation towards equal weights


def fitted_unit_weights(unit_goodness: Tensor, labels: Tensor) -> Tensor:
    """Fit non-negative unit weights by cross-entropy, with the weighted goodness as logits.

    Args:
        unit_goodness: [images, units, labels].
        labels: true class numbers, [images].

    Returns:
        Weights, [units], scaled to mean one, since only their ratios affect predictions.
    """
    goodness = unit_goodness.detach().double()
    goodness = goodness / goodness.std().clamp_min(1e-12)  # makes the fit independent of the scale of goodness
    units = goodness.shape[1]
    # The last entry is the log of an inverse temperature, which does not affect predictions.
    logs = torch.zeros(units + 1, dtype=torch.double, device=goodness.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([logs], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        weights = torch.softmax(logs[:-1], dim=0)
        score = torch.einsum("nul,u->nl", goodness, weights) * logs[-1].exp()
        value = cross_entropy(score, labels) + _PULL * logs[:-1].square().mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (units * torch.softmax(logs[:-1].detach(), dim=0)).to(unit_goodness.dtype)
