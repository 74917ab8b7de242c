"""All times are the database's own, to the millisecond, and come back aware and in UTC."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from store.clock import clock, database_time
from store.database import Sessions
from store.tables import Worker


def test_the_clock_goes_on_within_a_transaction(db: Sessions) -> None:
    with db() as session:
        first = database_time(session)
        time.sleep(0.05)
        assert 0.04 < (database_time(session) - first).total_seconds() < 5


@pytest.mark.parametrize("seconds", [0.0, 0.001, 1e-7, 15, 15.25, -3600.5, 1e6])
def test_so_many_seconds_from_now_are_exact_to_the_millisecond(db: Sessions, seconds: float) -> None:
    with db() as session:
        before, then, after = session.execute(select(clock(), clock(seconds), clock())).one()
    assert before + timedelta(seconds=seconds - 0.002) <= then <= after + timedelta(seconds=seconds + 0.002)


def test_a_stored_time_comes_back_as_the_same_moment_in_utc(db: Sessions) -> None:
    noon_in_delhi = datetime(2026, 1, 1, 12, 0, 0, 123456, timezone(timedelta(hours=5, minutes=30)))
    with db.begin() as session:
        session.add(Worker(id="w", queues=[], device="cpu", seen_at=noon_in_delhi))
    with db() as session:
        seen = session.scalars(select(Worker.seen_at)).one()
        assert seen == datetime(2026, 1, 1, 6, 30, 0, 123456, UTC)
        assert seen.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(db: Sessions) -> None:
    with db() as session:
        session.add(Worker(id="w", queues=[], device="cpu", seen_at=datetime(2026, 1, 1)))  # noqa: DTZ001 -- the point
        with pytest.raises(StatementError, match="needs a time zone"):
            session.flush()


def test_stored_times_and_the_clock_compare_rightly(db: Sessions) -> None:
    with db.begin() as session:
        now = database_time(session)
        for name, seen in (("past", now - timedelta(seconds=1)), ("future", now + timedelta(seconds=60))):
            session.add(Worker(id=name, queues=[], device="cpu", seen_at=seen))
        session.flush()
        assert session.scalars(select(Worker.id).where(Worker.seen_at < clock())).all() == ["past"]
        assert session.scalars(select(Worker.id).where(Worker.seen_at > clock())).all() == ["future"]
