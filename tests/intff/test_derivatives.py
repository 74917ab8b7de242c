import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.derivatives import OF_ACTIVATIONS, OF_LOSSES, of_goodness, of_group_goodness
from intff.goodness import GOODNESS, Goodness, by_group, mean_square, sum_square
from intff.layers import ACTIVATIONS
from intff.losses import LOSSES, LocalLoss, cross_entropy, softplus_logsumexp, softplus_mean, swish, symba
from intff.seeds import seeded

SEEDS = st.integers(0, 10**6)


def test_every_activation_goodness_and_loss_of_a_spec_has_its_derivative() -> None:
    assert set(OF_ACTIVATIONS) == set(ACTIVATIONS.values())
    assert set(OF_LOSSES) == set(LOSSES.values())
    assert set(GOODNESS.values()) == {mean_square, sum_square}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activations_is_autograds(name: str) -> None:
    before = torch.linspace(-4, 4, 33).double().requires_grad_()
    after = ACTIVATIONS[name](before * 1)
    weights = torch.linspace(1, 2, 33).double()
    torch.autograd.backward((after * weights).sum())
    with torch.no_grad():
        given_before = before * 1
        given_after = ACTIVATIONS[name](given_before)
        gradient = weights.clone()
        found = OF_ACTIVATIONS[ACTIVATIONS[name]](gradient, given_before, given_after)
    assert found is gradient
    torch.testing.assert_close(found, before.grad)


def test_goodness_by_hand() -> None:
    """The gradient of (9 + 16) / 2 is (3, 4), that of 9 + 16 is (6, 8); times what is asked of each row."""
    activations = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert of_goodness(mean_square, activations, torch.tensor([1.0, 5.0])).tolist() == [[3, 4], [5, 0]]
    assert of_goodness(sum_square, activations, torch.tensor([1.0, 5.0])).tolist() == [[6, 8], [10, 0]]


@pytest.mark.parametrize("goodness", GOODNESS.values())
@pytest.mark.parametrize("neurons", [6, 7, 8])
def test_that_of_groups_is_autograds_also_where_they_are_uneven(goodness: Goodness, neurons: int) -> None:
    activations = torch.randn((5, neurons), generator=seeded(0, "test")).double().requires_grad_()
    weights = torch.arange(15).view(5, 3).double()
    torch.autograd.backward((by_group(goodness, activations, 3) * weights).sum())
    torch.testing.assert_close(of_group_goodness(goodness, activations.detach(), weights), activations.grad)


@pytest.mark.parametrize(
    ("loss", "goodness", "value", "gradient"),
    [
        # Both softplus are of 0 with theta 1: log 2 each, and half of the slope 1/2.
        (softplus_mean, [1, 1], 0.693147, [-0.25, 0.25]),
        (softplus_mean, [1, 1, 1], 0.693147, [-0.25, 0.125, 0.125]),
        # log(e^g + e^g) is g + log 2, which is to be 1.
        (softplus_logsumexp, [1, 0.306853, 0.306853], 0.693147, [-0.25, 0.125, 0.125]),
        # Softplus and swish have the slope 1/2 at no gap; alpha is 4 and 6.
        (symba, [1, 1], 0.693147, [-2, 2]),
        (symba, [1, 1, 1], 0.693147, [-2, 1, 1]),
        (swish, [1, 1], 0, [-3, 3]),
        # Four equals have a quarter each.
        (cross_entropy, [1, 1, 1, 1], 1.386294, [-3, 1, 1, 1]),
    ],
)
def test_losses_by_hand(loss: LocalLoss, goodness: list[float], value: float, gradient: list[float]) -> None:
    """Of one image, and of two alike, each of which then counts half."""
    for batch in (1, 2):
        found, of_goodness = OF_LOSSES[loss](torch.tensor([goodness] * batch), 1.0)
        assert found.item() == pytest.approx(value, abs=1e-6)
        assert of_goodness.flatten().tolist() == pytest.approx([each / batch for each in gradient] * batch, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@given(SEEDS, st.integers(1, 4), st.integers(1, 5), st.floats(0.1, 10))
def test_a_losss_are_autograds(name: str, seed: int, batch: int, negatives: int, theta: float) -> None:
    goodness = 4 * torch.rand((batch, 1 + negatives), generator=seeded(seed, "test")).double()
    wanted = goodness.clone().requires_grad_()
    mean = LOSSES[name](wanted[:, 0], wanted[:, 1:], theta).mean()
    torch.autograd.backward(mean)
    loss, gradient = OF_LOSSES[LOSSES[name]](goodness, theta)
    assert wanted.grad is not None
    torch.testing.assert_close(loss, mean.detach())
    torch.testing.assert_close(gradient, wanted.grad)


@pytest.mark.parametrize("name", LOSSES)
def test_they_stay_finite_for_enormous_goodness(name: str) -> None:
    for found in OF_LOSSES[LOSSES[name]](torch.tensor([[0.0, 1e30, 1e30], [1e30, 0.0, 0.0]]), 1.5):
        assert bool(found.isfinite().all())
