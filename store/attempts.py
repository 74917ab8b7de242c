"""An attempt's own writes: claiming a job, keeping it, reporting, and ending in exactly one way.

Every write after the claim carries the fence: it touches the row only while the job runs and
this attempt is its newest. A function that answers None or False has written nothing, and the
attempt must stop, for the job is no longer its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, delete, false, literal, null, true, update
from sqlalchemy.orm import Session

from store.clock import clock, database_time
from store.ids import new_id
from store.statements import CHANGE, change_job, insert_into, status
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt, EpochMetricsRow, Job, Model


@dataclass(frozen=True)
class Claim:
    """A job that a worker holds: the attempt's number is the fence of all that it writes."""

    job_id: str
    attempt: int
    spec: dict[str, Any]
    checkpoints: tuple[dict[str, Any], ...]
    """To go on from, newest first."""
    worker: str
    lease_seconds: float


@dataclass(frozen=True)
class Orders:
    """What the job's owner has asked of the running attempt."""

    cancel: bool
    pause: bool


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float, max_attempts: int) -> Claim | None:
    """Take a job that waits, or one whose worker has been silent for longer than its lease.

    Returns:
        The claim, or None when somebody else was first or the job is not to be had.
    """
    queued = Job.status == JobStatus.QUEUED
    lost = (Job.status == JobStatus.RUNNING) & (Job.lease_expires_at < clock()) & (Job.losses + 1 < max_attempts)
    job = change_job(
        session,
        Job.id == job_id,
        ~Job.cancel_requested,
        ~Job.pause_requested,
        queued | lost,
        status=status(JobStatus.RUNNING),
        attempt=Job.attempt + 1,
        losses=case((queued, Job.losses), else_=Job.losses + 1),
        worker=worker,
        lease_expires_at=clock(lease_seconds),
        started_at=case((Job.started_at.is_(None), clock()), else_=Job.started_at),
        has_files=true(),
    )
    if job is None:
        return None
    end_attempt(session, job.id, job.attempt - 1, AttemptOutcome.LOST)
    session.execute(insert_into(session, Attempt).values(job_id=job.id, attempt=job.attempt, worker=worker))
    kept = tuple(checkpoint for checkpoint in (job.checkpoint, job.previous_checkpoint) if checkpoint is not None)
    return Claim(job.id, job.attempt, job.spec, kept, worker, lease_seconds)


def renew(session: Session, claim: Claim, progress: Mapping[str, Any] | None = None) -> Orders | None:
    """Keep the job for another lease, say how far it is, and learn what its owner wants, in one statement.

    A lease that ran out while nobody took the job is renewed like any other.
    """
    return _renew(session, claim, progress)


def record_epoch(
    session: Session, claim: Claim, metrics: Mapping[str, Any], progress: Mapping[str, Any]
) -> Orders | None:
    """Keep what one epoch reported, as `record_epochs` does."""
    return record_epochs(session, claim, [metrics], progress)


def record_epochs(
    session: Session, claim: Claim, metrics: Sequence[Mapping[str, Any]], progress: Mapping[str, Any] | None
) -> Orders | None:
    """Keep what epochs reported, and renew the lease; epochs that are trained again replace their earlier reports.

    However many they are, it takes three exchanges with the database: a training of short epochs has hundreds a second.

    Args:
        session: the session to write with.
        claim: the attempt's claim.
        metrics: each epoch's metrics, with its number as `epoch`, in the order in which they were trained.
        progress: how far the job is now; None leaves what is there.

    Returns:
        What the job's owner wants, as `renew` does; None when nothing was written.
    """
    kept = [dict(each) for each in metrics]
    orders = _renew(session, claim, progress, latest_metrics=kept[-1])
    if orders is None:
        return None
    # The job's row is locked now. Later epochs can only be a lost attempt's, which this one does not build on.
    first = kept[0]["epoch"]
    session.execute(
        delete(EpochMetricsRow).where(EpochMetricsRow.job_id == claim.job_id, EpochMetricsRow.epoch >= first)
    )
    session.execute(
        insert_into(session, EpochMetricsRow),
        [{"job_id": claim.job_id, "epoch": each["epoch"], "attempt": claim.attempt, "metrics": each} for each in kept],
    )
    return orders


def _renew(session: Session, claim: Claim, progress: Mapping[str, Any] | None, **reported: object) -> Orders | None:
    if progress is not None:
        reported["progress"] = dict(progress)
    job = change_job(session, *_fence(claim), lease_expires_at=clock(claim.lease_seconds), **reported)
    return None if job is None else Orders(cancel=job.cancel_requested, pause=job.pause_requested)


def record_checkpoint(session: Session, claim: Claim, checkpoint: Mapping[str, Any]) -> bool:
    """Make a stored checkpoint the one to go on from, and keep the one before; recording it twice is harmless."""
    newest = dict(checkpoint)
    repeated = Job.checkpoint == newest
    job = change_job(
        session,
        *_fence(claim),
        checkpoint=newest,
        previous_checkpoint=case((repeated, Job.previous_checkpoint), else_=Job.checkpoint),
    )
    return job is not None


def succeed(
    session: Session, claim: Claim, *, manifest: Mapping[str, Any], prefix: str, result: Mapping[str, Any]
) -> Model | None:
    """Publish the attempt's model and end the job, both or neither.

    A job whose cancelling was accepted ends as `cancelled` instead, without a model.

    Args:
        session: the session to write with.
        claim: the attempt's claim.
        manifest: the model folder's manifest.
        prefix: where the model's files lie in the artifact store.
        result: what the job's `result` shows.
    """
    model_id = new_id("model", database_time(session))
    job = _finish(session, claim, JobStatus.SUCCEEDED, result=dict(result), model_id=model_id)
    if job is None or job.status != JobStatus.SUCCEEDED:
        return None
    model = Model(
        id=model_id,
        owner=job.owner,
        job_id=job.id,
        name=job.name,
        spec=job.spec,
        manifest=dict(manifest),
        prefix=prefix,
    )
    session.add(model)
    session.flush()
    return model


def fail(session: Session, claim: Claim, *, code: str, message: str) -> bool:
    """End the job with an error; one whose cancelling was accepted ends as `cancelled` instead."""
    text = message.replace("\0", "")  # PostgreSQL's texts have no NUL, and a library's message may
    return _finish(session, claim, JobStatus.FAILED, error_code=code, error_message=text) is not None


def hand_back(session: Session, claim: Claim) -> JobStatus | None:
    """Let go of the job, and leave it as its owner wants it: cancelled, paused, or else in the queue again.

    Nothing is counted against the job. In the queue it is due for publishing at once.

    Returns:
        The job's state, or None when it was no longer this attempt's.
    """
    job = change_job(
        session,
        *_fence(claim),
        status=case(
            (Job.cancel_requested, status(JobStatus.CANCELLED)),
            (Job.pause_requested, status(JobStatus.PAUSED)),
            else_=status(JobStatus.QUEUED),
        ),
        finished_at=case((Job.cancel_requested, clock()), else_=null()),
        **released(),
    )
    if job is None:
        return None
    outcomes = {JobStatus.CANCELLED: AttemptOutcome.CANCELLED, JobStatus.PAUSED: AttemptOutcome.PAUSED}
    end_attempt(session, claim.job_id, claim.attempt, outcomes.get(job.status, AttemptOutcome.HANDED_BACK))
    return job.status


def set_cancelled(session: Session, claim: Claim) -> bool:
    """Stop because of a cancel order."""
    return hand_back(session, claim) is not None


def set_paused(session: Session, claim: Claim) -> bool:
    """Stop because of a pause order; if that was taken back meanwhile, the job returns to the queue."""
    return hand_back(session, claim) is not None


def released() -> dict[str, Any]:
    """The columns of a job that no worker holds any more and that is due for publishing at once."""
    return {
        "cancel_requested": false(),
        "pause_requested": false(),
        "worker": null(),
        "lease_expires_at": null(),
        "publishes": 0,
        "publish_after": clock(),
    }


def end_attempt(session: Session, job_id: str, attempt: int, outcome: AttemptOutcome) -> None:
    """Note how an attempt ended, unless that is known already."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.attempt == attempt, Attempt.finished_at.is_(None))
        .values(finished_at=clock(), outcome=outcome),
        execution_options=CHANGE,
    )


def _fence(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status == JobStatus.RUNNING


def _finish(session: Session, claim: Claim, wanted: JobStatus, **values: object) -> Job | None:
    """End the job as wanted, or as cancelled if that was asked for; `values` are kept only in the first case."""
    job = change_job(
        session,
        *_fence(claim),
        status=case((Job.cancel_requested, status(JobStatus.CANCELLED)), else_=status(wanted)),
        finished_at=clock(),
        **{name: case((Job.cancel_requested, null()), else_=_typed(name, value)) for name, value in values.items()},
        **released(),
    )
    if job is not None:
        end_attempt(session, claim.job_id, claim.attempt, AttemptOutcome(job.status.value))
    return job


def _typed(column: str, value: object) -> ColumnElement[Any]:
    """A value as its column stores it, which a CASE would otherwise have to guess."""
    return literal(value, Job.__table__.c[column].type)
