"""The reconciler's queries: jobs whose worker went silent, and jobs that nobody has claimed.

Any number of processes may run these at once: each change is one conditional statement, and on
PostgreSQL they skip rows that another process is just changing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, case, delete, null, select, update
from sqlalchemy.orm import Session

from store.attempts import end_attempt, released
from store.clock import clock, database_time
from store.jobs import REPUBLISH_SECONDS
from store.queue import QUEUES
from store.settings import LONGEST_LEASE_SECONDS
from store.statements import CHANGE, status
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Job, Worker

_AT_ONCE = 100  # rows per sweep; the next one takes the rest
_DOUBLINGS = 4  # 15, 30, 60, 120, then every 240 s: a queue hours long must not fill the broker with copies
_FORGET_SECONDS = 86_400.0
_SHORTENED_SECONDS = 60.0  # what an overlong lease is cut to; a live worker renews it long before


@dataclass(frozen=True)
class Queued:
    """A queued job, in the form that `store.queue.publish` accepts."""

    id: str
    queue: str
    priority: int


@dataclass(frozen=True)
class Swept:
    """What one sweep changed, and what to publish once it is committed."""

    requeued: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    to_publish: list[Queued] = field(default_factory=list)
    """The requeued jobs, and those that have waited unclaimed; highest priority first within each queue."""


def sweep(
    session: Session, *, max_attempts: int, republish_seconds: float = REPUBLISH_SECONDS, as_of: datetime | None = None
) -> Swept:
    """Settle the jobs whose lease has expired, and find the ones to publish.

    A lost job becomes `cancelled` or `paused` if that was requested, `failed` (`worker_lost`) if this was
    its last attempt, and `queued` again otherwise.

    Args:
        session: the session to write with.
        max_attempts: how many attempts a job may lose.
        republish_seconds: how long a published job may stay unclaimed at first.
        as_of: the time, by the database's clock, before which a lease must have expired; now by default.
    """
    _shorten_leases(session)
    swept = Swept()
    kept = {
        JobStatus.QUEUED: swept.requeued,
        JobStatus.FAILED: swept.failed,
        JobStatus.CANCELLED: swept.cancelled,
        JobStatus.PAUSED: swept.paused,
    }
    for job_id, became in _settle_lost(session, max_attempts, as_of or database_time(session)):
        kept[became].append(job_id)
    for queue in QUEUES:
        swept.to_publish.extend(_due(session, queue, republish_seconds))
    session.execute(delete(Worker).where(Worker.seen_at < clock(-_FORGET_SECONDS)), execution_options=CHANGE)
    return swept


def mark_unpublished(session: Session, job_ids: Collection[str]) -> None:
    """Note that the broker did not accept these jobs, so that the next sweep publishes them."""
    waiting = (Job.id.in_(job_ids), Job.status == JobStatus.QUEUED)
    # Lock rows in a fixed order, so that two of these never deadlock.
    ordered = select(Job.id).where(*waiting).order_by(Job.id).with_for_update().cte("ordered")
    session.execute(
        update(Job).where(Job.id.in_(select(ordered.c.id)), *waiting).values(publishes=0, publish_after=clock()),
        execution_options=CHANGE,
    )


def _shorten_leases(session: Session) -> None:
    """Shorten leases that are longer than any worker asks for, left from before the database's clock was set back.

    A live worker renews its own within a second; the others would hold their jobs until that time comes again.
    """
    too_late = (Job.status == JobStatus.RUNNING, Job.lease_expires_at > clock(LONGEST_LEASE_SECONDS))
    session.execute(
        update(Job).where(*too_late).values(lease_expires_at=clock(_SHORTENED_SECONDS)), execution_options=CHANGE
    )


def _settle_lost(session: Session, max_attempts: int, as_of: datetime) -> list[tuple[str, JobStatus]]:
    silent = (Job.status == JobStatus.RUNNING, Job.lease_expires_at < as_of)
    lost = select(Job.id).where(*silent).limit(_AT_ONCE).with_for_update(skip_locked=True).cte("lost")
    last_chance = Job.losses + 1 >= max_attempts
    settled = session.execute(
        update(Job)
        .where(Job.id.in_(select(lost.c.id)), *silent)
        .values(
            status=case(
                (Job.cancel_requested, status(JobStatus.CANCELLED)),
                (Job.pause_requested, status(JobStatus.PAUSED)),
                (last_chance, status(JobStatus.FAILED)),
                else_=status(JobStatus.QUEUED),
            ),
            losses=Job.losses + 1,
            error_code=case((_fails(last_chance), "worker_lost"), else_=null()),
            error_message=case((_fails(last_chance), _lost_message(max_attempts)), else_=null()),
            finished_at=case((Job.cancel_requested | _fails(last_chance), clock()), else_=null()),
            revision=Job.revision + 1,
            **released(),
        )
        .returning(Job.id, Job.attempt, Job.status),
        execution_options=CHANGE,
    ).all()
    for job_id, attempt, _ in settled:
        end_attempt(session, job_id, attempt, AttemptOutcome.LOST)
    return [(job_id, became) for job_id, _, became in settled]


def _fails(last_chance: ColumnElement[bool]) -> ColumnElement[bool]:
    return last_chance & ~Job.cancel_requested & ~Job.pause_requested


def _lost_message(max_attempts: int) -> str:
    return f"the worker of every one of {max_attempts} attempts went silent; submit the job again to retry"


def _due(session: Session, queue: str, republish_seconds: float) -> list[Queued]:
    """The jobs to publish among the first of a queue.

    Only the first: workers need no more messages than that, and later jobs move up as these are claimed.
    """
    first = (
        select(Job.id)
        .where(Job.status == JobStatus.QUEUED, Job.queue == queue)
        .order_by(Job.priority.desc(), Job.id)
        .limit(_AT_ONCE)
        .cte("first")
    )
    longest = republish_seconds * 2**_DOUBLINGS  # a later time is from before the database's clock was set back
    is_due = (
        Job.status == JobStatus.QUEUED,
        (Job.publish_after <= clock()) | (Job.publish_after > clock(longest)),
    )
    due = select(Job.id).where(Job.id.in_(select(first.c.id)), *is_due).with_for_update(skip_locked=True).cte("due")
    wait = case(
        *((Job.publishes == times, republish_seconds * 2**times) for times in range(_DOUBLINGS)),
        else_=republish_seconds * 2**_DOUBLINGS,
    )
    found = session.execute(
        update(Job)
        .where(Job.id.in_(select(due.c.id)), *is_due)
        .values(publishes=Job.publishes + 1, publish_after=clock(wait))
        .returning(Job.id, Job.queue, Job.priority),
        execution_options=CHANGE,
    ).all()
    return [Queued(*row) for row in sorted(found, key=lambda row: (-row.priority, row.id))]
