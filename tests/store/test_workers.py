"""A worker is alive for as long as it is heard of."""

from __future__ import annotations

from sqlalchemy import update

from store.clock import clock
from store.database import Sessions
from store.overview import count_by_status, count_waiting
from store.tables import Worker
from store.workers import beat, live_queues, live_workers


def test_the_queues_of_living_workers_are_served(db: Sessions) -> None:
    with db.begin() as session:
        assert live_queues(session) == set()
        beat(session, "one", queues=["cpu"], device="cpu")
        beat(session, "two", queues=["gpu", "cpu"], device="NVIDIA H200")
        assert live_queues(session) == {"cpu", "gpu"}
        session.execute(update(Worker).where(Worker.id == "two").values(seen_at=clock(-31)))
        assert live_queues(session) == {"cpu"}
        assert live_queues(session, within_seconds=60) == {"cpu", "gpu"}


def test_a_beat_repeats_without_a_second_row_and_keeps_the_first_start(db: Sessions) -> None:
    with db.begin() as session:
        beat(session, "one", queues=["cpu"], device="cpu")
        (first,) = live_workers(session)
        started, seen = first.started_at, first.seen_at
    with db.begin() as session:
        beat(session, "one", queues=["cpu", "gpu"], device="cuda")
        (again,) = live_workers(session)
        assert (again.started_at, again.queues, again.device) == (started, ["cpu", "gpu"], "cuda")
        assert again.seen_at >= seen


def test_counts_name_every_state_and_queue_even_without_a_job(db: Sessions) -> None:
    with db() as session:
        assert count_by_status(session) == {
            "queued": 0,
            "running": 0,
            "paused": 0,
            "succeeded": 0,
            "failed": 0,
            "cancelled": 0,
        }
        assert count_waiting(session) == {"cpu": 0, "gpu": 0}
