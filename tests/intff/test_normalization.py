import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.normalization import NORMALIZATIONS, l2, layer, needs_total, normalized, rms
from intff.seeds import seeded


def test_l2_divides_by_the_norm_plus_a_ten_thousandth() -> None:
    """The vector (3, 4) has the norm 5."""
    mean, factor = l2(None, torch.tensor(25.0), 2)
    assert mean is None
    assert factor.item() == pytest.approx(1 / 5.0001, rel=1e-6)


def test_rms_divides_by_the_root_of_the_mean_square() -> None:
    """The vector (1, 7) has the mean square 25."""
    mean, factor = rms(None, torch.tensor(50.0), 2)
    assert mean is None
    assert factor.item() == pytest.approx(1 / 5, rel=1e-6)


def test_layer_subtracts_the_mean_and_divides_by_the_standard_deviation() -> None:
    """The vector (1, 7) has the mean 4 and the deviation 3."""
    mean, factor = layer(torch.tensor(8.0), torch.tensor(50.0), 2)
    assert mean.item() == 4.0
    assert factor.item() == pytest.approx(1 / 3, rel=1e-6)


def test_an_input_of_zeros_is_scaled_by_a_finite_number() -> None:
    zero = torch.tensor(0.0)
    assert l2(None, zero, 3)[1].item() == pytest.approx(1e4)
    assert rms(None, zero, 3)[1].item() == pytest.approx(1e3)
    assert layer(zero, zero, 3)[1].item() == pytest.approx(1e3)


def test_a_variance_that_rounds_below_zero_counts_as_zero() -> None:
    """No three numbers have these sums, but rounded sums may look so; a root of less than zero would be NaN."""
    mean, factor = layer(torch.tensor(3000.0), torch.tensor(2_999_999.0), 3)
    assert mean.item() == 1000.0
    assert factor.item() == pytest.approx(1e3)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("l2", [[3 / 5.0001, 4 / 5.0001], [0.0, 0.0]]),
        ("rms", [[3 / 12.5**0.5, 4 / 12.5**0.5], [0.0, 0.0]]),
        ("layer", [[-1.0, 1.0], [0.0, 0.0]]),
    ],
)
def test_rows_are_normalised_each_by_its_own_values(name: str, wanted: list[list[float]]) -> None:
    found = normalized(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), NORMALIZATIONS[name])
    assert found.tolist() == [pytest.approx(row, rel=1e-5) for row in wanted]


@pytest.mark.parametrize("name", NORMALIZATIONS)
@given(st.integers(0, 10**6))
def test_a_row_of_any_shape_is_normalised_over_all_its_values(name: str, seed: int) -> None:
    """By what the function says of the row's sum and sum of squares."""
    inputs = torch.rand((3, 2, 4, 5), generator=seeded(seed, "test")).double() + 0.1
    found = normalized(inputs, NORMALIZATIONS[name])
    for row, image in zip(found, inputs, strict=True):
        mean, factor = NORMALIZATIONS[name](image.sum(), image.square().sum(), 40)
        assert torch.allclose(row, (image - (0 if mean is None else mean)) * factor, rtol=1e-9, atol=1e-9)


def test_layer_normalisation_of_a_bright_row_loses_no_digits() -> None:
    """Around 1000 the squares differ in the eighth digit only, which float32 does not have."""
    found = normalized(torch.tensor([[999.5, 1000.5]]), layer)
    assert found.tolist() == [pytest.approx([-1.0, 1.0], rel=1e-4)]


def test_layer_alone_needs_the_sum_of_an_inputs_values() -> None:
    assert {name: needs_total(found) for name, found in NORMALIZATIONS.items()} == {
        "l2": False,
        "rms": False,
        "layer": True,
    }
