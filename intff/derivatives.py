"""Explicit derivatives of activations, goodness and local losses, each in as few passes as possible."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, silu, softplus

from intff import losses
from intff.goodness import Goodness, mean_square
from intff.layers import ACTIVATIONS, LEAK, Activation
from intff.losses import ENTROPY_ALPHA, SWISH_ALPHA, SYMBA_ALPHA, LocalLoss

_backward = torch.ops.aten

OfActivation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps the gradient with respect to an activation's output, its input and its output to the gradient with respect to
its input; overwrites the gradient."""

OF_ACTIVATIONS: dict[Activation, OfActivation] = {
    ACTIVATIONS["relu"]: lambda gradient, _, after: _backward.threshold_backward(
        gradient, after, 0, grad_input=gradient
    ),
    ACTIVATIONS["leaky_relu"]: lambda gradient, _, after: _backward.leaky_relu_backward(
        gradient, after, LEAK, True, grad_input=gradient
    ),
    ACTIVATIONS["gelu"]: lambda gradient, before, _: _backward.gelu_backward(gradient, before, grad_input=gradient),
    ACTIVATIONS["silu"]: lambda gradient, before, _: _backward.silu_backward(gradient, before, grad_input=gradient),
    ACTIVATIONS["tanh"]: lambda gradient, _, after: _backward.tanh_backward(gradient, after, grad_input=gradient),
}


def of_goodness(goodness: Goodness, activations: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with respect to activations, given that with respect to their goodness.

    Args:
        goodness: the goodness function.
        activations: of one unit's output layer, or of one group of it, [..., neurons].
        gradient: with respect to the goodness, [...].

    Returns:
        The gradient, [..., neurons].
    """
    share = 1 / activations.shape[-1] if goodness is mean_square else 1
    return activations * (gradient * (2 * share)).unsqueeze(-1)


def of_group_goodness(goodness: Goodness, activations: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with respect to activations, [rows, neurons], given that of the group goodness, [rows, groups]."""
    rows, groups = gradient.shape
    if activations.shape[1] % groups == 0:
        return of_goodness(goodness, activations.view(rows, groups, -1), gradient).flatten(1)
    parts = zip(torch.tensor_split(activations, groups, dim=1), gradient.unbind(1), strict=True)
    return torch.cat([of_goodness(goodness, *part) for part in parts], dim=1)


WithGradient = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""Maps goodness, [batch, 1 + negatives], with the positive in the first column, and theta to the batch's mean loss and
its gradient with respect to the goodness."""


def _softplus_mean(goodness: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    batch, negatives = len(goodness), goodness.shape[1] - 1
    above = goodness - theta
    above[:, 0].neg_()
    each = softplus(above)
    gradient = above.sigmoid_().div_(2 * batch * negatives)
    gradient[:, 0].mul_(-negatives)
    return (each[:, 0].mean() + each[:, 1:].mean()) / 2, gradient


def _softplus_logsumexp(goodness: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    if goodness.shape[1] == 2:  # noqa: PLR2004 -- one negative is its own log-sum-exp
        return _softplus_mean(goodness, theta)
    positive, negative = theta - goodness[:, :1], goodness[:, 1:]
    together = torch.logsumexp(negative, dim=1, keepdim=True)
    of_negative = torch.exp(negative - together).mul_(torch.sigmoid(together - theta))
    gradient = torch.cat([-torch.sigmoid(positive), of_negative], dim=1).div_(2 * len(goodness))
    return (softplus(positive) + softplus(together - theta)).mean() / 2, gradient


def _symba(goodness: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    del theta
    gaps = SYMBA_ALPHA * (goodness[:, 1:] - goodness[:, :1])
    return softplus(gaps).mean(), _of_gaps(torch.sigmoid(gaps), SYMBA_ALPHA)


def _swish(goodness: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    del theta
    gaps = SWISH_ALPHA * (goodness[:, 1:] - goodness[:, :1])
    return silu(gaps).mean(), _of_gaps(_backward.silu_backward(torch.ones_like(gaps), gaps), SWISH_ALPHA)


def _of_gaps(slopes: Tensor, alpha: float) -> Tensor:
    """The gradient with respect to the goodness of a mean over f(alpha (g_neg - g_pos)), given the slopes f'."""
    of_negative = slopes * (alpha / slopes.numel())
    return torch.cat([-of_negative.sum(dim=1, keepdim=True), of_negative], dim=1)


def _cross_entropy(goodness: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    del theta
    logarithms = log_softmax(ENTROPY_ALPHA * goodness, dim=1)
    gradient = logarithms.exp()
    gradient[:, 0].sub_(1)
    return -logarithms[:, 0].mean(), gradient.mul_(ENTROPY_ALPHA / len(goodness))


OF_LOSSES: dict[LocalLoss, WithGradient] = {
    losses.softplus_mean: _softplus_mean,
    losses.softplus_logsumexp: _softplus_logsumexp,
    losses.symba: _symba,
    losses.swish: _swish,
    losses.cross_entropy: _cross_entropy,
}
