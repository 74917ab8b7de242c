import pytest

from intff.schedule import SCHEDULES


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
    ],
)
def test_the_factor_by_the_share_of_the_run(name: str, done: float, factor: float) -> None:
    assert SCHEDULES[name](done) == pytest.approx(factor, abs=1e-12)
