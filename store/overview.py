"""Queries over many rows at once: counts of jobs for the metrics, and the aliases of listed models."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.queue import QUEUES
from store.statuses import JobStatus
from store.tables import Alias, Job


def count_by_status(session: Session) -> dict[JobStatus, int]:
    """How many jobs of all owners are in each state, including zeros."""
    counted = session.execute(select(Job.status, func.count()).group_by(Job.status))
    return dict.fromkeys(JobStatus, 0) | {status: count for status, count in counted}  # noqa: C416 -- rows, not tuples


def count_waiting(session: Session) -> dict[str, int]:
    """How many jobs of all owners wait in each queue, including zeros."""
    counted = session.execute(select(Job.queue, func.count()).where(Job.status == JobStatus.QUEUED).group_by(Job.queue))
    return dict.fromkeys(QUEUES, 0) | {queue: count for queue, count in counted}  # noqa: C416 -- as above


def aliases_of(session: Session, model_ids: Collection[str]) -> dict[str, list[str]]:
    """The aliases that point at each of the models, in alphabetical order."""
    found: dict[str, list[str]] = {model_id: [] for model_id in model_ids}
    rows = session.execute(
        select(Alias.model_id, Alias.alias).where(Alias.model_id.in_(model_ids)).order_by(Alias.alias)
    )
    for model_id, alias in rows:
        found[model_id].append(alias)
    return found
