"""An attempt's own writes: claiming a job, renewing the lease, reporting, and ending in exactly one way.

Every write after the claim is fenced: it only changes the row while the job is running and this
attempt is its newest. A function that returns None or False has written nothing, and the attempt
must stop, because the job is no longer its own.
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
    """A job that a worker holds: the attempt's number is the fencing token of all its writes."""

    job_id: str
    attempt: int
    spec: dict[str, Any]
    checkpoints: tuple[dict[str, Any], ...]
    """To resume from, newest first."""
    worker: str
    lease_seconds: float


@dataclass(frozen=True)
class Orders:
    """What the job's owner has asked of the running attempt."""

    cancel: bool
    pause: bool


def claim(session: Session, job_id: str, *, worker: str, lease_seconds: float, max_attempts: int) -> Claim | None:
    """Claim a queued job, or a running one whose worker let its lease expire.

    Returns:
        The claim, or None if somebody else was first or the job cannot be claimed.
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
    """Renew the lease, report progress, and read what the job's owner wants, in one statement.

    A lease that expired while nobody took the job is renewed like any other.
    """
    return _renew(session, claim, progress)


def record_epoch(
    session: Session, claim: Claim, metrics: Mapping[str, Any], progress: Mapping[str, Any]
) -> Orders | None:
    """Store one epoch's metrics, as `record_epochs` does."""
    return record_epochs(session, claim, [metrics], progress)


def record_epochs(
    session: Session, claim: Claim, metrics: Sequence[Mapping[str, Any]], progress: Mapping[str, Any] | None
) -> Orders | None:
    """Store the metrics of epochs, and renew the lease; epochs that are trained again replace their earlier metrics.

    This takes three database round trips however many epochs there are: short epochs come by the hundreds a second.

    Args:
        session: the session to write with.
        claim: the attempt's claim.
        metrics: each epoch's metrics, with its number as `epoch`, in the order in which they were trained.
        progress: how far the job is now; None leaves the stored progress unchanged.

    Returns:
        What the job's owner wants, as in `renew`; None if nothing was written.
    """
    kept = [dict(each) for each in metrics]
    orders = _renew(session, claim, progress, latest_metrics=kept[-1])
    if orders is None:
        return None
    # The job's row is locked now. Later epochs can only come from a lost attempt, which this one does not build on.
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
    """Make a stored checkpoint the one to resume from, and keep the previous one; recording it twice is harmless."""
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

    A job whose cancellation was accepted ends as `cancelled` instead, without a model.

    Args:
        session: the session to write with.
        claim: the attempt's claim.
        manifest: the model folder's manifest.
        prefix: where the model's files are in the artifact store.
        result: the job's `result`.
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
    """End the job with an error; a job whose cancellation was accepted ends as `cancelled` instead."""
    text = message.replace("\0", "")  # PostgreSQL text cannot contain NUL, but a library's message may
    return _finish(session, claim, JobStatus.FAILED, error_code=code, error_message=text) is not None


def hand_back(session: Session, claim: Claim) -> JobStatus | None:
    """Release the job, and leave it as its owner wants it: cancelled, paused, or else queued again.

    Nothing is counted against the job. If queued, it is due for publishing at once.

    Returns:
        The job's status, or None if it was no longer this attempt's.
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
    """Stop because a cancel was requested."""
    return hand_back(session, claim) is not None


def set_paused(session: Session, claim: Claim) -> bool:
    """Stop because a pause was requested; if that was withdrawn meanwhile, the job returns to the queue."""
    return hand_back(session, claim) is not None


def released() -> dict[str, Any]:
    """Column values for a job that no worker holds any more and that is due for publishing at once."""
    return {
        "cancel_requested": false(),
        "pause_requested": false(),
        "worker": null(),
        "lease_expires_at": null(),
        "publishes": 0,
        "publish_after": clock(),
    }


def end_attempt(session: Session, job_id: str, attempt: int, outcome: AttemptOutcome) -> None:
    """Record how an attempt ended, unless that is already known."""
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == job_id, Attempt.attempt == attempt, Attempt.finished_at.is_(None))
        .values(finished_at=clock(), outcome=outcome),
        execution_options=CHANGE,
    )


def _fence(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return Job.id == claim.job_id, Job.attempt == claim.attempt, Job.status == JobStatus.RUNNING


def _finish(session: Session, claim: Claim, wanted: JobStatus, **values: object) -> Job | None:
    """End the job as wanted, or as cancelled if that was requested; `values` are stored only in the first case."""
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
    """A value with its column's type, which a CASE would otherwise have to guess."""
    return literal(value, Job.__table__.c[column].type)
