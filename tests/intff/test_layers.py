import pytest
import torch

from intff.layers import dense, l2_scale, rms_scale
from intff.seeds import seeded


def test_l2_divides_by_the_norm_plus_a_ten_thousandth() -> None:
    """The vector (3, 4) has the norm 5."""
    assert l2_scale(torch.tensor(25.0), 2).item() == pytest.approx(1 / 5.0001, rel=1e-6)


def test_rms_divides_by_the_root_of_the_mean_square() -> None:
    """The vector (1, 7) has the mean square 25."""
    assert rms_scale(torch.tensor(50.0), 2).item() == pytest.approx(1 / 5, rel=1e-6)


def test_an_input_of_zeros_is_scaled_by_a_finite_number() -> None:
    assert l2_scale(torch.tensor(0.0), 3).item() == pytest.approx(1e4)
    assert rms_scale(torch.tensor(0.0), 3).item() == pytest.approx(1e3)


def test_a_dense_layer_is_glorot_uniform_with_zero_biases() -> None:
    """The bound is the root of 6 / (inputs + outputs): here 0.1."""
    layer = dense(400, 200, seeded(0, "weights"))
    assert layer.weight.shape == (200, 400)
    assert layer.weight.abs().max().item() == pytest.approx(0.1, rel=1e-3)
    assert layer.weight.var().item() == pytest.approx(0.1**2 / 3, rel=0.02)
    assert layer.bias.count_nonzero() == 0


def test_making_a_layer_leaves_the_callers_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    dense(4, 3, seeded(0, "weights"))
    assert torch.equal(torch.random.get_rng_state(), before)
