import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.losses import LOSSES, cross_entropy, softplus_logsumexp, softplus_mean, swish, symba

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


MONOTONE = [name for name in LOSSES if name != "swish"]


@pytest.mark.parametrize("name", MONOTONE)
def test_more_positive_or_less_negative_goodness_never_costs(name: str) -> None:
    goodness = torch.linspace(0, 8, 33).double()
    ones = torch.ones(33, 3).double()
    rising = LOSSES[name](goodness, ones, 1.5)
    falling = LOSSES[name](torch.ones(33).double(), goodness.unsqueeze(1), 1.5)
    assert bool((rising.diff() < 0).all())
    assert bool((falling.diff() > 0).all())


def test_the_swish_is_so_only_until_the_gap_is_a_fifth() -> None:
    """Its least is at alpha (g_pos - g_neg) = 1.278465; a wider gap costs a little, never more than zero."""
    turn = 1.278465 / 6
    gaps = torch.linspace(-4, 4, 801).double()
    losses = swish(gaps, torch.zeros(801, 1).double(), 1.5)
    assert bool((losses.diff()[gaps[1:] < turn] < 0).all())
    assert bool((losses.diff()[gaps[:-1] > turn] > 0).all())
    assert bool((losses[gaps > 0] < 0).all())
    assert losses.min().item() == pytest.approx(-0.278465, abs=1e-4)
    assert losses[-1].item() == pytest.approx(0, abs=1e-8)


def test_symba_by_hand() -> None:
    """Softplus of -4 times the gap: 0, 1/4 and -1/2."""
    loss = symba(torch.tensor([1.0, 1.25, 0.5]), torch.tensor([[1.0], [1.0], [1.0]]), 99.0)
    assert loss.tolist() == pytest.approx([0.693147, 0.313262, 2.126928], abs=1e-6)
    several = symba(torch.tensor([1.0]), torch.tensor([[1.0, 0.75]]), 99.0)
    assert several.tolist() == pytest.approx([(0.693147 + 0.313262) / 2], abs=1e-6)


def test_swish_by_hand() -> None:
    """The function x / (1 + e^-x) of x = -6 times the gap: 0; -1 is -0.268941; 2 is 1.761594."""
    loss = swish(torch.tensor([1.0, 1 + 1 / 6, 1 - 1 / 3]), torch.tensor([[1.0], [1.0], [1.0]]), 99.0)
    assert loss.tolist() == pytest.approx([0, -0.268941, 1.761594], abs=1e-5)
    several = swish(torch.tensor([1.0]), torch.tensor([[1.0, 1 - 1 / 6, 1 + 1 / 3]]), 99.0)
    assert several.tolist() == pytest.approx([(-0.268941 + 1.761594) / 3], abs=1e-5)


def test_cross_entropy_by_hand() -> None:
    """Of equals it is the logarithm of their number; of a gap of 1/4, times 4, softplus of -1, and +1."""
    equal = cross_entropy(torch.tensor([0.5]), torch.tensor([[0.5, 0.5, 0.5]]), 99.0)
    assert equal.tolist() == pytest.approx([1.386294], abs=1e-6)
    gap = cross_entropy(torch.tensor([1.0, 0.75]), torch.tensor([[0.75], [1.0]]), 99.0)
    assert gap.tolist() == pytest.approx([0.313262, 1.313262], abs=1e-6)


@pytest.mark.parametrize("name", ["symba", "swish", "cross_entropy"])
@given(st.floats(0, 20), st.floats(0, 20), st.floats(0, 20))
def test_without_theta_only_differences_count(name: str, positive: float, negative: float, more: float) -> None:
    goodness = torch.tensor([positive]).double(), torch.tensor([[negative, 1.0]]).double()
    loss = LOSSES[name](*goodness, 0.5)
    assert torch.equal(loss, LOSSES[name](*goodness, 7.0))
    raised = LOSSES[name](goodness[0] + more, goodness[1] + more, 0.5)
    assert torch.allclose(loss, raised, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_each_sample_has_its_own_loss_whatever_the_leading_shape(name: str) -> None:
    positive, negative = torch.arange(6.0).view(2, 3) / 3, torch.arange(12.0).view(2, 3, 2) / 5
    losses = LOSSES[name](positive, negative, 1.5)
    assert losses.shape == (2, 3)
    assert torch.allclose(losses.flatten(), LOSSES[name](positive.flatten(), negative.flatten(0, 1), 1.5))
