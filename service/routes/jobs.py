"""Submitting, reading, cancelling, pausing and resuming jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, BackgroundTasks, Body, Header, Query, Response, status
from pydantic import AfterValidator
from pydantic_core import to_json
from sqlalchemy.orm import Session

from intff.errors import SpecError
from intff.spec import TrainSpec, require_within
from service.dependencies import (
    SIGNED_IN,
    JobIdDep,
    OwnerDep,
    PartsDep,
    PathPrefixDep,
    ReadSessionDep,
    SessionDep,
)
from service.errors import InvalidRequest
from service.problems import documented
from service.schemas.jobs import JOB_REQUESTS, EpochMetrics, Job, JobPage, JobRequest, MetricsPage, storable
from service.snapshots import job_of
from store import queries, tables
from store.ids import id_pattern
from store.settings import Settings
from store.statuses import JobStatus

log = structlog.get_logger("intff.service")

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    **SIGNED_IN,
    responses=documented("unauthorized", "rate_limited", "internal_error", "unavailable"),
)

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Any text you choose; sending the same request again with it creates no second job.",
    ),
]


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    operation_id="submit_job",
    response_description="Accepted; `Location` is the job's path.",
    responses={
        202: {"headers": {"Location": {"description": "The job's path.", "schema": {"type": "string"}}}},
        **documented(
            "idempotency_key_reused",
            "too_slow",
            "payload_too_large",
            "unsupported_media_type",
            "invalid_spec",
            "invalid_request",
            "quota_exceeded",
            "rate_limited",  # again, beside the other 429
        ),
    },
)
def submit_job(
    *,
    request: Annotated[JobRequest, Body(openapi_examples=JOB_REQUESTS)],
    prefix: PathPrefixDep,
    response: Response,
    after: BackgroundTasks,
    parts: PartsDep,
    owner: OwnerDep,
    session: SessionDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Train a network. The job is stored before the response is sent, and survives a crash of any one process."""
    settings = parts.settings
    _require_allowed(request, settings)
    row = queries.submit(
        session,
        request.spec,
        owner=owner,
        name=request.name,
        metadata=request.metadata or {},
        priority=request.priority or 0,
        idempotency_key=idempotency_key,
        max_queued_jobs=settings.most_queued_jobs(owner),
        republish_seconds=settings.republish_seconds,
    )
    queues = _queues_if_waiting(session, [row])
    session.commit()  # no query after this: it would hold a connection until the response has been sent
    # After the commit, and after the response: a broker that is down delays nobody, and the reconciler publishes later.
    after.add_task(parts.publisher.publish_job, row)
    response.headers["Location"] = f"{prefix}/v1/jobs/{row.id}"
    log.info("job_accepted", job=row.id, queue=row.queue)
    return job_of(row, queues)


@router.get("", operation_id="list_jobs", responses=documented("invalid_request"))
def list_jobs(
    *,
    parts: PartsDep,
    owner: OwnerDep,
    session: ReadSessionDep,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
    name: Annotated[
        str | None, Query(max_length=200, description="Only jobs with exactly this name."), AfterValidator(storable)
    ] = None,
    after: Annotated[
        str | None, Query(pattern=id_pattern("job"), description="The last id of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> JobPage:
    """List jobs, newest first."""
    page = queries.list_jobs(session, owner=owner, status=status, name=name, after=after, limit=limit)
    queues = _queues_if_waiting(session, page.rows)
    for row in page.rows:
        parts.predictor.heard_of(row.model_id)
    return JobPage(data=[job_of(row, queues) for row in page.rows], has_more=page.has_more)


@router.get("/{job_id}", operation_id="get_job", responses=documented("not_found"))
def get_job(job_id: JobIdDep, parts: PartsDep, owner: OwnerDep, session: ReadSessionDep) -> Job:
    """Get one job."""
    row = queries.get_job(session, job_id, owner=owner)
    parts.predictor.heard_of(row.model_id)
    return job_of(row, _queues_if_waiting(session, [row]))


@router.get("/{job_id}/metrics", operation_id="get_job_metrics", responses=documented("not_found"))
def get_job_metrics(job_id: JobIdDep, owner: OwnerDep, session: ReadSessionDep) -> MetricsPage:
    """Get the metrics of every finished epoch of a job, in order."""
    rows = queries.list_metrics(session, job_id, owner=owner)
    return MetricsPage(data=[EpochMetrics.model_validate(row) for row in rows])


@router.post("/{job_id}/cancel", operation_id="cancel_job", responses=documented("not_found", "conflict"))
def cancel_job(job_id: JobIdDep, owner: OwnerDep, session: SessionDep) -> Job:
    """Stop a job for good. A running one ends within a few training steps; repeating this is harmless."""
    row = queries.request_cancel(session, job_id, owner=owner)
    session.commit()
    return job_of(row, ())


@router.post("/{job_id}/pause", operation_id="pause_job", responses=documented("not_found", "conflict"))
def pause_job(job_id: JobIdDep, owner: OwnerDep, session: SessionDep) -> Job:
    """Stop a job until it is resumed; it keeps its last checkpoint. Repeating this is harmless."""
    row = queries.request_pause(session, job_id, owner=owner)
    session.commit()
    return job_of(row, ())


@router.post("/{job_id}/resume", operation_id="resume_job", responses=documented("not_found", "conflict"))
def resume_job(job_id: JobIdDep, after: BackgroundTasks, parts: PartsDep, owner: OwnerDep, session: SessionDep) -> Job:
    """Resume a paused job from its last checkpoint. Repeating this is harmless."""
    row = queries.request_resume(session, job_id, owner=owner, republish_seconds=parts.settings.republish_seconds)
    queues = _queues_if_waiting(session, [row])
    session.commit()
    after.add_task(parts.publisher.publish_job, row)
    return job_of(row, queues)


def _require_allowed(request: JobRequest, settings: Settings) -> None:
    size = len(to_json(request.metadata or {}))
    if size > settings.max_metadata_bytes:
        msg = f"metadata may take at most {settings.max_metadata_bytes:,} bytes as JSON, this takes {size:,}"
        raise InvalidRequest(msg, field="metadata")
    try:
        _require_short(request.spec, settings.max_epochs)
        require_within(request.spec, settings.limits())
    except SpecError as refused:
        raise SpecError(str(refused), field=f"spec.{refused.field}") from refused


def _require_short(spec: TrainSpec, most: int) -> None:
    if spec.training.epochs > most:
        msg = f"at most {most:,} epochs are allowed, got {spec.training.epochs:,}"
        raise SpecError(msg, field="training.epochs")


def _queues_if_waiting(session: Session, rows: Sequence[tables.Job]) -> frozenset[str]:
    """The queues with a live worker, queried only if one of the jobs could be waiting for one."""
    if all(row.status != JobStatus.QUEUED for row in rows):
        return frozenset()
    return frozenset(queries.live_queues(session))
