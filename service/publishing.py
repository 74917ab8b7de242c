"""Hands a committed job to the broker; one that does not take it is no error, since the reconciler tries again."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from celery import Celery

from store.database import Sessions
from store.errors import BrokerUnavailable
from store.queries import mark_unpublished
from store.queue import Publishable, publish
from store.statuses import JobStatus
from store.tables import Job

log = structlog.get_logger("intff.service")


def publish_job(broker: Celery, sessions: Sessions, job: Job) -> None:
    """Publish a job that waits for a worker; any other is left alone."""
    if job.status == JobStatus.QUEUED:
        publish_all(broker, sessions, [job])


def publish_all(broker: Celery, sessions: Sessions, jobs: Sequence[Publishable]) -> bool:
    """Publish jobs in this order, until the broker fails; the rest is left to the next sweep.

    Returns:
        Whether the broker took all of them.
    """
    for position, job in enumerate(jobs):
        try:
            publish(broker, job)
        except BrokerUnavailable as error:
            log.warning("publish_failed", jobs=len(jobs) - position, error=str(error))
            with sessions.begin() as session:
                mark_unpublished(session, [left.id for left in jobs[position:]])
            return False
    return True
