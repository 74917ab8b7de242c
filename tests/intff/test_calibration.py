import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from intff.calibration import fitted_unit_weights
from intff.seeds import seeded

CLASSES = 3


def _noisy(deviations: list[float], images: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Units whose goodness is one for the true label and zero for others, plus Gaussian noise."""
    generator = seeded(seed, "test")
    labels = torch.randint(CLASSES, (images,), generator=generator)
    noise = torch.randn((images, len(deviations), CLASSES), generator=generator).double()
    clean = one_hot(labels, CLASSES).unsqueeze(1).double()
    return clean + noise * torch.tensor(deviations).view(1, -1, 1), labels


def test_units_count_by_the_inverse_of_their_noises_variance() -> None:
    """The posterior is the softmax of the sum of g / variance: 1 to 1/4 here, with mean one 1.6 and 0.4.

    20,000 images tell a proportion to about a hundredth.
    """
    weights = fitted_unit_weights(*_noisy([0.8, 1.6], 20_000))
    assert weights.tolist() == pytest.approx([1.6, 0.4], abs=0.05)


def test_three_units_too() -> None:
    """4, 1 and 16/9 over their sum 61/9, times three."""
    weights = fitted_unit_weights(*_noisy([0.5, 1.0, 0.75], 20_000))
    assert weights.tolist() == pytest.approx([108 / 61, 27 / 61, 48 / 61], abs=0.06)


def test_equal_units_count_alike() -> None:
    goodness, labels = _noisy([1.0], 500)
    assert fitted_unit_weights(goodness.repeat(1, 3, 1), labels).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_a_unit_that_misleads_hardly_counts_but_never_less_than_nothing() -> None:
    goodness, labels = _noisy([0.8, 0.8], 2000)
    goodness[:, 1] *= -1
    weights = fitted_unit_weights(goodness, labels)
    assert 0 <= weights[1].item() < 0.05
    assert weights[0].item() == pytest.approx(2 - weights[1].item())


def test_one_unit_counts_one() -> None:
    assert fitted_unit_weights(*_noisy([0.8], 50)).tolist() == [1.0]


@given(st.integers(1, 6), st.integers(1, 40), st.sampled_from([1e-6, 1.0, 1e6]), st.integers(0, 10**6))
def test_no_weight_is_negative_and_their_mean_is_one(units: int, images: int, scale: float, seed: int) -> None:
    generator = seeded(seed, "test")
    goodness = torch.rand((images, units, CLASSES), generator=generator) * scale
    weights = fitted_unit_weights(goodness, torch.randint(CLASSES, (images,), generator=generator))
    assert weights.shape == (units,)
    assert weights.dtype == torch.float32
    assert float(weights.min()) >= 0
    assert float(weights.mean()) == pytest.approx(1, rel=1e-5)


@given(st.integers(0, 10**6))
def test_the_fit_is_no_worse_than_any_other_proportion(seed: int) -> None:
    """Tried on a grid of proportions and of sharpness; cross-entropy but for the small pull."""
    goodness, labels = _noisy([0.7, 1.3], 60, seed)
    share = float(fitted_unit_weights(goodness, labels)[0]) / 2

    def best(share: float) -> float:
        score = goodness[:, 0] * share + goodness[:, 1] * (1 - share)
        return min(float(cross_entropy(score * 1.1**step, labels)) for step in range(-50, 60))

    assert best(share) <= min(best(other / 20) for other in range(21)) + 0.01


def test_black_goodness_counts_alike() -> None:
    """A network that has learnt nothing gives every label the same."""
    weights = fitted_unit_weights(torch.zeros(5, 2, CLASSES), torch.zeros(5, dtype=torch.int64))
    assert weights.tolist() == [1, 1]


def test_it_leaves_gradients_and_random_state_alone() -> None:
    goodness, labels = _noisy([0.8, 1.6], 50)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        inside = fitted_unit_weights(goodness, labels)
    assert not inside.requires_grad
    assert torch.equal(inside, fitted_unit_weights(goodness, labels))
    assert torch.equal(torch.random.get_rng_state(), before)
