"""Jobs as their owners see them: submitting, reading, cancelling, pausing and resuming."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

from sqlalchemy import ColumnElement, case, false, func, null, select, text
from sqlalchemy.orm import Session

from intff.spec import TrainSpec
from store.clock import clock, database_time
from store.errors import Conflict, NotFound, QuotaExceeded
from store.ids import new_id
from store.pages import Page, read_page
from store.queue import queue_for
from store.statements import change_job, insert_into, status
from store.statuses import TERMINAL, UNFINISHED, JobStatus
from store.tables import NO_OWNER, EpochMetricsRow, Job

REPUBLISH_SECONDS = 15.0


def submit(
    session: Session,
    spec: TrainSpec,
    *,
    owner: str = NO_OWNER,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: int = 0,
    idempotency_key: str | None = None,
    max_queued_jobs: int | None = None,
    republish_seconds: float = REPUBLISH_SECONDS,
) -> Job:
    """Accept a job, or find the one that the same request with the same key has already created.

    The caller commits, and then publishes the id if the job is `queued`; if that fails, the
    reconciler does it after `republish_seconds`.

    Raises:
        Conflict: the key was used for another request.
        QuotaExceeded: the owner has `max_queued_jobs` unfinished jobs already.
    """
    request = {
        "spec": spec.model_dump(mode="json"),
        "name": name,
        "metadata": dict(metadata or {}),
        "priority": priority,
    }
    digest = hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    if max_queued_jobs is not None:
        _count_alone(session, owner)
    if idempotency_key is not None and (earlier := _same_key(session, owner, idempotency_key)) is not None:
        return _require_same(earlier, digest)
    if max_queued_jobs is not None and (active := count_active(session, owner)) >= max_queued_jobs:
        msg = (
            f"at most {max_queued_jobs} unfinished jobs are allowed, and there are {active}; "
            "wait for one to finish or cancel one"
        )
        raise QuotaExceeded(msg)
    made = session.scalars(
        insert_into(session, Job)
        .values(
            id=new_id("job", database_time(session)),
            owner=owner,
            name=name,
            metadata_=request["metadata"],
            spec=request["spec"],
            queue=queue_for(spec.training.device),
            priority=priority,
            idempotency_key=idempotency_key,
            request_sha256=digest,
            publishes=1,
            publish_after=clock(republish_seconds),
        )
        .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
        .returning(Job)
    ).one_or_none()
    if made is not None:
        return made
    # Another request with this key was committed between the lookup and the insertion.
    return _require_same(_same_key(session, owner, idempotency_key), digest)


def get_job(session: Session, job_id: str, *, owner: str | None) -> Job:
    """Read one job.

    Args:
        session: the session to read with.
        job_id: which one.
        owner: who must own it; None for internal use, which may see every job.

    Raises:
        NotFound: there is none, or it is another owner's.
    """
    job = session.scalars(
        select(Job).where(*_mine(job_id, owner)), execution_options={"populate_existing": True}
    ).one_or_none()
    if job is None:
        msg = f"there is no job {job_id!r}"
        raise NotFound(msg)
    return job


def list_jobs(
    session: Session,
    *,
    owner: str = NO_OWNER,
    status: JobStatus | None = None,
    name: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> Page[Job]:
    """Read a page of jobs, newest first.

    Args:
        session: the session to read with.
        owner: whose jobs.
        status: only those in this state.
        name: only those with exactly this name.
        after: the last id of the previous page.
        limit: how many jobs, at most.
    """
    conditions = [Job.owner == owner]
    if status is not None:
        conditions.append(Job.status == status)
    if name is not None:
        conditions.append(Job.name == name)
    return read_page(session, Job, conditions, after, limit)


def list_metrics(session: Session, job_id: str, *, owner: str | None, after: int = 0) -> list[dict[str, Any]]:
    """Read the metrics of a job's epochs, in order.

    Args:
        session: the session to read with.
        job_id: whose epochs.
        owner: who must own the job; None for internal use.
        after: the last epoch that is already known.

    Raises:
        NotFound: there is no such job, or it is another owner's.
    """
    get_job(session, job_id, owner=owner)
    rows = session.scalars(
        select(EpochMetricsRow.metrics)
        .where(EpochMetricsRow.job_id == job_id, EpochMetricsRow.epoch > after)
        .order_by(EpochMetricsRow.epoch)
    )
    return list(rows)


def sample_metrics(session: Session, job_id: str, *, owner: str | None, most: int) -> list[dict[str, Any]]:
    """Read the metrics of at most `most` epochs of a job, evenly spaced backwards from the last.

    Raises:
        NotFound: there is no such job, or it is another owner's.
    """
    get_job(session, job_id, owner=owner)
    last = session.scalar(select(func.max(EpochMetricsRow.epoch)).where(EpochMetricsRow.job_id == job_id)) or 0
    every = max(1, ceil(last / most))
    rows = session.scalars(
        select(EpochMetricsRow.metrics)
        .where(EpochMetricsRow.job_id == job_id, EpochMetricsRow.epoch % every == last % every)
        .order_by(EpochMetricsRow.epoch)
    )
    return list(rows)


def revisions(session: Session, job_ids: Collection[str]) -> dict[str, int]:
    """Read each job's revision; a higher number means that the job has changed."""
    rows = session.execute(select(Job.id, Job.revision).where(Job.id.in_(job_ids)))
    return {job_id: revision for job_id, revision in rows}  # noqa: C416 -- the rows are not plain tuples


def count_active(session: Session, owner: str) -> int:
    """How many jobs of an owner are not finished."""
    return session.scalars(select(func.count()).where(Job.owner == owner, Job.status.in_(UNFINISHED))).one()


def request_cancel(session: Session, job_id: str, *, owner: str = NO_OWNER) -> Job:
    """Cancel a job: at once if no worker holds it, else its worker is told to stop.

    Once this is accepted the job ends as `cancelled`, whatever its worker does meanwhile.

    Raises:
        NotFound: there is no such job, or it is another owner's.
        Conflict: the job has succeeded or failed.
    """
    waits = Job.status.in_((JobStatus.QUEUED, JobStatus.PAUSED))
    job = change_job(
        session,
        *_mine(job_id, owner),
        waits | ((Job.status == JobStatus.RUNNING) & ~Job.cancel_requested),
        status=case((waits, status(JobStatus.CANCELLED)), else_=Job.status),
        cancel_requested=~waits,
        pause_requested=false(),
        finished_at=case((waits, clock()), else_=null()),
    )
    if job is not None:
        return job
    job = get_job(session, job_id, owner=owner)
    if job.status in TERMINAL - {JobStatus.CANCELLED}:
        msg = f"job {job_id} has {job.status} and cannot be cancelled any more"
        raise Conflict(msg)
    return job


def request_pause(session: Session, job_id: str, *, owner: str = NO_OWNER) -> Job:
    """Pause a job: at once if it is queued, else its worker is told to, and stops within about a second.

    If the end of the epoch is near, it stops there with a checkpoint; else the epochs since the last checkpoint
    will be trained again.

    Raises:
        NotFound: there is no such job, or it is another owner's.
        Conflict: the job has finished, or is being cancelled.
    """
    queued = Job.status == JobStatus.QUEUED
    running = (Job.status == JobStatus.RUNNING) & ~Job.cancel_requested & ~Job.pause_requested
    job = change_job(
        session,
        *_mine(job_id, owner),
        queued | running,
        status=case((queued, status(JobStatus.PAUSED)), else_=Job.status),
        pause_requested=~queued,
    )
    return job if job is not None else _require_movable(get_job(session, job_id, owner=owner), "paused")


def request_resume(
    session: Session, job_id: str, *, owner: str = NO_OWNER, republish_seconds: float = REPUBLISH_SECONDS
) -> Job:
    """Resume a paused job, or withdraw the request to pause; the caller then publishes it if it is `queued`.

    Raises:
        NotFound: there is no such job, or it is another owner's.
        Conflict: the job has finished, or is being cancelled.
    """
    paused = Job.status == JobStatus.PAUSED
    pausing = (Job.status == JobStatus.RUNNING) & Job.pause_requested & ~Job.cancel_requested
    job = change_job(
        session,
        *_mine(job_id, owner),
        paused | pausing,
        status=case((paused, status(JobStatus.QUEUED)), else_=Job.status),
        pause_requested=false(),
        publishes=case((paused, 1), else_=Job.publishes),
        publish_after=case((paused, clock(republish_seconds)), else_=Job.publish_after),
    )
    return job if job is not None else _require_movable(get_job(session, job_id, owner=owner), "resumed")


def _mine(job_id: str, owner: str | None) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == job_id,) if owner is None else (Job.id == job_id, Job.owner == owner)


def _require_movable(job: Job, move: str) -> Job:
    if job.status.is_terminal:
        msg = f"job {job.id} is {job.status} and cannot be {move} any more"
        raise Conflict(msg)
    if job.cancel_requested:
        msg = f"job {job.id} is being cancelled and cannot be {move} any more"
        raise Conflict(msg)
    return job


def _same_key(session: Session, owner: str, key: str | None) -> Job | None:
    return session.scalars(select(Job).where(Job.owner == owner, Job.idempotency_key == key)).one_or_none()


def _require_same(earlier: Job | None, digest: str) -> Job:
    if earlier is None or earlier.request_sha256 != digest:
        msg = "this Idempotency-Key was used for another request; use a new key for each different request"
        raise Conflict(msg, code="idempotency_key_reused")
    return earlier


def _count_alone(session: Session, owner: str) -> None:
    """Let only one submission per owner count and insert at a time; SQLite has a single writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 0))"), {"owner": f"quota:{owner}"})
