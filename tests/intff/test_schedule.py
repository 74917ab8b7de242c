import pytest

from intff.schedule import SCHEDULES, warmed_up


@pytest.mark.parametrize(
    ("name", "done", "factor"),
    [
        ("constant", 0.0, 1.0),
        ("constant", 0.7, 1.0),
        ("constant", 1.0, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 1 / 3, 0.75),
        ("cosine", 0.5, 0.5),
        ("cosine", 2 / 3, 0.25),
        ("cosine", 1.0, 0.0),
        ("hold_then_decay", 0.0, 1.0),
        ("hold_then_decay", 0.5, 1.0),
        ("hold_then_decay", 0.75, 0.5),
        ("hold_then_decay", 0.9, 0.2),
        ("hold_then_decay", 1.0, 0.0),
    ],
)
def test_the_factor_by_the_share_of_the_run(name: str, done: float, factor: float) -> None:
    assert SCHEDULES[name](done) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "done", "factor"),
    [
        ("constant", 0.0, 0.0),
        ("constant", 0.05, 0.25),
        ("constant", 0.1, 0.5),
        ("constant", 0.2, 1.0),
        ("constant", 1.0, 1.0),
        ("cosine", 0.1, 0.5),
        ("cosine", 0.2, 1.0),
        ("cosine", 0.6, 0.5),  # half of the other four fifths
        ("cosine", 1.0, 0.0),
        ("hold_then_decay", 0.6, 1.0),
        ("hold_then_decay", 0.8, 0.5),
        ("hold_then_decay", 1.0, 0.0),
    ],
)
def test_a_warm_up_of_a_fifth_comes_before_the_whole_schedule(name: str, done: float, factor: float) -> None:
    assert warmed_up(SCHEDULES[name], 0.2)(done) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_warm_up_is_the_schedule_itself(name: str) -> None:
    assert warmed_up(SCHEDULES[name], 0.0) is SCHEDULES[name]
