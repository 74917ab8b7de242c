"""Which workers are alive, according to their heartbeats."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from store.clock import clock
from store.statements import CHANGE, insert_into
from store.tables import Worker


def beat(session: Session, worker: str, *, queues: Sequence[str], device: str) -> None:
    """Note that a worker is alive.

    Args:
        session: the session to write with.
        worker: its name, unique among all workers.
        queues: the queues that it serves.
        device: a description of what it trains on, for people.
    """
    now = {"queues": list(queues), "device": device, "seen_at": clock()}
    session.execute(
        insert_into(session, Worker).values(id=worker, **now).on_conflict_do_update(index_elements=["id"], set_=now),
        execution_options=CHANGE,
    )


def retire(session: Session, worker: str) -> None:
    """Remove a worker that shuts down cleanly, so that nobody waits for it."""
    session.execute(delete(Worker).where(Worker.id == worker), execution_options=CHANGE)


def live_workers(session: Session, within_seconds: float = 30.0) -> Sequence[Worker]:
    """The workers whose last heartbeat is recent."""
    return session.scalars(select(Worker).where(Worker.seen_at > clock(-within_seconds)).order_by(Worker.id)).all()


def live_queues(session: Session, within_seconds: float = 30.0) -> set[str]:
    """The queues that have a live worker; a job in any other queue waits."""
    return {queue for worker in live_workers(session, within_seconds) for queue in worker.queues}
