"""Local losses, which are small if positive goodness is high and negative goodness is low (paper section 3.1).

The functions are pure and return one loss per sample; the caller averages over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, silu, softplus

LocalLoss = Callable[[Tensor, Tensor, float], Tensor]
"""Maps positive goodness, [...], goodness of each sample's negatives, [..., negatives], and theta to losses, [...]."""

SYMBA_ALPHA = 4.0
SWISH_ALPHA = 6.0
ENTROPY_ALPHA = 4.0


def softplus_mean(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """(softplus(theta - g_pos) + mean over negatives of softplus(g_neg - theta)) / 2 (section 3.1)."""
    return (softplus(theta - positive) + softplus(negative - theta).mean(dim=-1)) / 2


def softplus_logsumexp(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """(softplus(theta - g_pos) + softplus(logsumexp over negatives of g_neg - theta)) / 2.

    The log-sum-exp is dominated by the strongest negative of a sample; with one negative, the
    loss equals `softplus_mean`.
    """
    return (softplus(theta - positive) + softplus(torch.logsumexp(negative, dim=-1) - theta)) / 2


def symba(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """Mean over negatives of softplus(-alpha (g_pos - g_neg)), alpha = 4; no theta (SymBa, arXiv 2303.08418)."""
    del theta
    return softplus(-SYMBA_ALPHA * (positive.unsqueeze(-1) - negative)).mean(dim=-1)


def swish(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """Mean over negatives of silu(-alpha (g_pos - g_neg)), alpha = 6; no theta. SymBa with silu for softplus."""
    del theta
    return silu(-SWISH_ALPHA * (positive.unsqueeze(-1) - negative)).mean(dim=-1)


def cross_entropy(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """-log of the positive's entry of softmax(alpha g) over the positive and its negatives, alpha = 4; no theta."""
    del theta
    every = ENTROPY_ALPHA * torch.cat([positive.unsqueeze(-1), negative], dim=-1)
    return -log_softmax(every, dim=-1)[..., 0]


LOSSES: dict[str, LocalLoss] = {
    "softplus": softplus_mean,
    "softplus_logsumexp": softplus_logsumexp,
    "symba": symba,
    "swish": swish,
    "cross_entropy": cross_entropy,
}
