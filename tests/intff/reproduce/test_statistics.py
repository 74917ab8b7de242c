import pytest

from intff.reproduce.statistics import differences, sample


def test_mean_deviation_and_interval_by_hand() -> None:
    """1, 2, 3, 4, 5: mean 3, s the root of 10 / 4, t of four degrees of freedom 2.776445, s / sqrt(5) 0.707107."""
    found = sample([1, 2, 3, 4, 5])
    assert (found.count, found.mean) == (5, 3.0)
    assert found.deviation == pytest.approx(1.5811388)
    assert found.half_width == pytest.approx(1.963243, abs=1e-5)
    assert found.low == pytest.approx(1.036757, abs=1e-5)
    assert found.high == pytest.approx(4.963243, abs=1e-5)


def test_one_run_has_no_spread() -> None:
    found = sample([0.98])
    assert (found.mean, found.deviation, found.low, found.high) == (0.98, None, None, None)


def test_differences_are_taken_seed_by_seed() -> None:
    assert differences({2: 5.0, 0: 3.0, 7: 9.0}, {0: 1.0, 2: 1.5, 5: 0.0}) == [2.0, 3.5]
