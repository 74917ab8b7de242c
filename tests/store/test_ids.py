"""Identifiers sort by time, on every host and in every database."""

from __future__ import annotations

from datetime import UTC, datetime

from store.ids import is_id, new_id


def test_an_identifier_begins_with_its_time() -> None:
    # 2026-01-01T00:00:00Z is 1767225600000 ms; in base 32 (bc) 1 19 13 27 13 21 10 0 0, with a 0 before.
    made = new_id("job", datetime(2026, 1, 1, tzinfo=UTC))
    assert made[:14] == "job_01kdvdna00"
    assert len(made) == 30


def test_later_identifiers_are_greater_and_none_repeat() -> None:
    made = [new_id("model", datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)) for second in range(60)]
    assert made == sorted(made)
    same_moment = {new_id("job", datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(1000)}
    assert len(same_moment) == 1000


def test_an_identifier_is_known_by_its_form() -> None:
    made = new_id("model")
    assert is_id(made, "model")
    assert not is_id(made, "job")
    assert not is_id("mdl_best", "model")
    assert not is_id(made.upper(), "model")
    assert not is_id(made + "0", "model")
