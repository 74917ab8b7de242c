"""Publishes committed jobs to the broker; a broker that does not accept them is no error: the reconciler retries."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic

import anyio
import structlog
from anyio import to_thread
from celery import Celery

from store.database import Sessions
from store.errors import BrokerUnavailable
from store.queries import mark_unpublished
from store.queue import Publishable, publish
from store.statuses import JobStatus
from store.tables import Job

log = structlog.get_logger("intff.service")

_LEAVE_SECONDS = 3.0  # longer than a hanging broker blocks a thread, shorter than the pause between two sweeps


class Publisher:
    """Publishes for one API process: for its routes, and for its reconciler.

    A hanging broker takes two seconds per job. Routes therefore publish in a dedicated thread, so that no
    other request waits for it. After a failure they leave their jobs to the next sweep for a while; the
    reconciler always tries, and once the broker accepts a job again, the routes resume publishing.
    """

    def __init__(self, broker: Celery, sessions: Sessions) -> None:
        self._broker = broker
        self._sessions = sessions
        # A single thread, so that no job overtakes an earlier one: the first takes longest, as it opens the connection.
        self._thread = anyio.CapacityLimiter(1)
        self._leave_until = -inf

    async def publish_job(self, job: Job) -> None:
        """Publish a job if it is queued, after those that were passed in before it."""
        if job.status == JobStatus.QUEUED:
            await to_thread.run_sync(self._publish_or_leave, job, limiter=self._thread)

    def publish_all(self, jobs: Sequence[Publishable]) -> bool:
        """Publish jobs in this order, until the broker fails; the rest is left to the next sweep.

        Returns:
            Whether the broker accepted all of them.
        """
        for position, job in enumerate(jobs):
            try:
                publish(self._broker, job)
            except BrokerUnavailable as error:
                self._leave_until = monotonic() + _LEAVE_SECONDS
                log.warning("publish_failed", jobs=len(jobs) - position, error=str(error))
                self._leave(jobs[position:])
                return False
            self._leave_until = -inf
        return True

    def _publish_or_leave(self, job: Job) -> None:
        # Checked in the thread: while this job waited for it, the previous one may have found the broker unreachable.
        if monotonic() < self._leave_until:
            self._leave([job])
        else:
            self.publish_all([job])

    def _leave(self, jobs: Sequence[Publishable]) -> None:
        with self._sessions.begin() as session:
            mark_unpublished(session, [job.id for job in jobs])
