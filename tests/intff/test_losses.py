import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.losses import LOSSES, softplus_logsumexp, softplus_mean

# log(1 + e^x): 0.693147 at 0, 1.313262 at 1, 0.313262 at -1, 2.126928 at 2, 0.126928 at -2.


def test_softplus_of_one_negative_by_hand() -> None:
    loss = softplus_mean(torch.tensor([1.5, 2.5, 0.5]), torch.tensor([[1.5], [0.5], [2.5]]), 1.5)
    assert loss.tolist() == pytest.approx([0.693147, 0.313262, 1.313262], abs=1e-6)


def test_softplus_of_several_negatives_is_the_mean_of_each_alone() -> None:
    loss = softplus_mean(torch.tensor([1.5]), torch.tensor([[2.5, 0.5]]), 1.5)
    assert loss.tolist() == pytest.approx([(0.693147 + (1.313262 + 0.313262) / 2) / 2], abs=1e-6)


def test_logsumexp_of_two_equal_negatives_adds_the_logarithm_of_two() -> None:
    """Each g is 1.5 - log 2, so that logsumexp is 1.5 and both halves are log 2."""
    below = 1.5 - 0.693147
    loss = softplus_logsumexp(torch.tensor([1.5]), torch.tensor([[below, below]]), 1.5)
    assert loss.tolist() == pytest.approx([0.693147], abs=1e-6)


def test_logsumexp_of_unequal_negatives_by_hand() -> None:
    """log(e^1 + e^3) is 3.126928; minus theta 1 that is 2.126928, whose softplus is 2.239546."""
    loss = softplus_logsumexp(torch.tensor([0.0]), torch.tensor([[1.0, 3.0]]), 1.0)
    assert loss.tolist() == pytest.approx([(1.313262 + 2.239546) / 2], abs=1e-6)


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.1, 10))
def test_with_one_negative_both_losses_are_the_same(positive: float, negative: float, theta: float) -> None:
    arguments = torch.tensor([positive]), torch.tensor([[negative]]), theta
    assert torch.equal(softplus_mean(*arguments), softplus_logsumexp(*arguments))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_for_enormous_goodness(name: str) -> None:
    positive = torch.tensor([0.0, 1e30], requires_grad=True)
    negative = torch.tensor([[1e30, 1e30], [0.0, 0.0]], requires_grad=True)
    losses = LOSSES[name](positive, negative, 1.5)
    torch.autograd.backward(losses.sum())
    for values in (losses, positive.grad, negative.grad):
        assert values is not None
        assert bool(values.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_more_positive_or_less_negative_goodness_never_costs(name: str) -> None:
    goodness = torch.linspace(0, 8, 33)
    rising = LOSSES[name](goodness, torch.ones(33, 3), 1.5)
    falling = LOSSES[name](torch.ones(33), goodness.unsqueeze(1), 1.5)
    assert bool((rising.diff() < 0).all())
    assert bool((falling.diff() > 0).all())
