"""Converts the store's rows to the JSON types of the API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from service.schemas.jobs import EpochMetrics, Job, JobError, Progress, Result
from service.schemas.models import Artifact, Model
from store import tables
from store.statuses import JobStatus


def job_of(row: tables.Job, live_queues: Collection[str]) -> Job:
    """A job's row as JSON.

    Args:
        row: the job.
        live_queues: the queues that have a live worker.
    """
    status = JobStatus(row.status)
    return Job(
        id=row.id,
        name=row.name,
        status=status,
        is_terminal=status.is_terminal,
        spec=row.spec,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=_progress(row, live_queues),
        latest_metrics=EpochMetrics.model_validate(row.latest_metrics) if row.latest_metrics else None,
        result=Result.model_validate(row.result) if row.result else None,
        attempt=row.attempt,
        error=JobError(code=row.error_code, message=row.error_message or "") if row.error_code else None,
        model_id=row.model_id,
        metadata=row.metadata_,
    )


def _progress(row: tables.Job, live_queues: Collection[str]) -> Progress:
    told: Mapping[str, Any] = row.progress or {}
    status = JobStatus(row.status)
    waits = status is JobStatus.QUEUED and row.queue not in live_queues
    return Progress(
        epoch=told.get("epoch", 0),
        epochs=told.get("epochs", row.spec["training"]["epochs"]),
        # Early stopping ends a run before its last epoch.
        fraction=1.0 if status is JobStatus.SUCCEEDED else told.get("fraction", 0.0),
        eta_seconds=told.get("eta_seconds") if status is JobStatus.RUNNING else None,
        waiting=f"no live worker serves the queue {row.queue!r}; the job starts when one does" if waits else None,
    )


def model_of(row: tables.Model, aliases: list[str]) -> Model:
    """A model's row as JSON."""
    manifest = row.manifest
    return Model(
        id=row.id,
        name=row.name,
        job_id=row.job_id,
        created_at=row.created_at,
        aliases=aliases,
        labels=manifest["labels"],
        image_shape=manifest["image_shape"],
        algorithm=manifest["algorithm"],
        classifier=manifest["classifier"],
        theta=manifest["theta"],
        units=manifest["units"],
        parameters=manifest["parameters"],
        result=Result.model_validate(manifest["result"]),
        spec=row.spec,
        artifacts=artifacts_of(row),
    )


def artifacts_of(row: tables.Model) -> list[Artifact]:
    """The files of a model; the manifest, which cannot contain its own hash, is not listed."""
    return [
        Artifact(
            name=name,
            bytes=file["bytes"],
            sha256=file["sha256"],
            url=f"/v1/models/{row.id}/artifacts/{name}",
        )
        for name, file in sorted(row.manifest["files"].items())
    ]
