"""Cleaning up after jobs that have ended: which files are no longer needed, and which jobs are still to be checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.artifacts import Artifacts
from store.clock import clock
from store.statements import CHANGE
from store.statuses import TERMINAL
from store.tables import Job, Model

_AT_ONCE = 20
GRACE_SECONDS = 5.0  # the attempt that ended the job cleans up first


@dataclass(frozen=True)
class Ended:
    """A job that has ended, with its model's prefix if it published one."""

    job_id: str
    model_prefix: str | None


def find_ended(
    session: Session, grace_seconds: float = GRACE_SECONDS, passing_by: Collection[str] = ()
) -> Sequence[Ended]:
    """Some jobs that ended at least so long ago and may have left files behind, except those in `passing_by`."""
    rows = session.execute(
        select(Job.id, Model.prefix)
        .outerjoin(Model, Model.job_id == Job.id)
        .where(Job.has_files, Job.status.in_(TERMINAL), Job.finished_at < clock(-grace_seconds))
        .where(Job.id.not_in(passing_by))
        .order_by(Job.finished_at)
        .limit(_AT_ONCE)
    )
    return [Ended(*row) for row in rows]


def remove_files(artifacts: Artifacts, ended: Ended) -> None:
    """Delete a job's checkpoints, and every model folder but the published one; doing it twice is harmless."""
    artifacts.delete_prefix(f"jobs/{ended.job_id}")
    parent = f"models/{ended.job_id}"
    if ended.model_prefix is None:
        artifacts.delete_prefix(parent)
        return
    for name in artifacts.names(parent):
        if f"{parent}/{name}" != ended.model_prefix:
            artifacts.delete_prefix(f"{parent}/{name}")


def note_removed(session: Session, ended: Ended) -> None:
    """Mark a job as cleaned up."""
    session.execute(update(Job).where(Job.id == ended.job_id).values(has_files=False), execution_options=CHANGE)


def note_files(session: Session, job_id: str) -> None:
    """Mark a job for another cleanup: an attempt that had lost it may have written files even after the job's end."""
    session.execute(update(Job).where(Job.id == job_id).values(has_files=True), execution_options=CHANGE)
