"""Local losses: small when positive goodness is above theta and negative goodness below (paper section 3.1).

The functions are pure and give one loss per sample; the caller averages over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

LocalLoss = Callable[[Tensor, Tensor, float], Tensor]


def softplus_mean(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """(softplus(theta - g_pos) + mean over negatives of softplus(g_neg - theta)) / 2.

    Args:
        positive: goodness of the positive data, [batch].
        negative: goodness of each sample's negatives, [batch, negatives].
        theta: the threshold.

    Returns:
        The loss of each sample, [batch].
    """
    return (softplus(theta - positive) + softplus(negative - theta).mean(dim=-1)) / 2


def softplus_logsumexp(positive: Tensor, negative: Tensor, theta: float) -> Tensor:
    """(softplus(theta - g_pos) + softplus(logsumexp over negatives of g_neg - theta)) / 2.

    The log-sum-exp lets the strongest negative of a sample weigh most; with one negative
    this is `softplus_mean`.

    Args:
        positive: goodness of the positive data, [batch].
        negative: goodness of each sample's negatives, [batch, negatives].
        theta: the threshold.

    Returns:
        The loss of each sample, [batch].
    """
    return (softplus(theta - positive) + softplus(torch.logsumexp(negative, dim=-1) - theta)) / 2


LOSSES: dict[str, LocalLoss] = {"softplus": softplus_mean, "softplus_logsumexp": softplus_logsumexp}
