"""The one task: claim a job by its id and run an attempt at it, in the pool's child process."""

from __future__ import annotations

import os
import time
from functools import cache, partial

import structlog
from celery import Task, shared_task

from store.artifacts import Artifacts
from store.attempts import Claim, claim, fail
from store.database import Sessions, connect, sessions
from store.errors import BrokerUnavailable
from store.logs import bind
from store.queue import TASK, publish
from store.settings import Settings, read_settings
from store.tables import Job
from worker.cooldown import COOLDOWN
from worker.lease import DATABASE_AWAY, Lease
from worker.scratch import scratch_folder
from worker.shutdown import StopRequest, stop_on_sigterm

log = structlog.get_logger("intff.task")

# The message is gone once it is taken; if the database is unreachable for longer, the reconciler republishes the job.
CLAIM_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 5.0)


@shared_task(name=TASK, bind=True, ignore_result=True)
def train(self: Task[[str], None], job_id: str) -> None:
    """Run one attempt at a job; a job that is already claimed, or no longer needs a worker, is silently ignored."""
    from worker.attempt import Attempt  # noqa: PLC0415 - it imports torch, see worker.process

    with stop_on_sigterm() as stop:
        COOLDOWN.wait(stop)
        won = _claim(job_id, self.request.hostname or "worker", stop)
        if won is None:
            return

        def send(job: Job) -> None:
            try:
                publish(self.app, job)
            except BrokerUnavailable as error:
                log.warning("publish_failed", error=str(error))  # the reconciler does it later

        with bind(job=won.job_id, attempt=won.attempt), _lease(won, stop) as lease:
            try:
                with scratch_folder(settings().home / "scratch", f"{won.job_id}-{won.attempt}") as scratch:
                    Attempt(
                        won,
                        lease,
                        artifacts=Artifacts(settings().artifacts_url),
                        scratch=scratch,
                        data_dir=settings().data_dir,
                        publish=send,
                    ).run()
            except Exception as error:  # noqa: BLE001 - no disk space or artifact store: the owner must learn of it
                _give_up(won, lease, error)


def _lease(won: Claim, stop: StopRequest) -> Lease:
    """A lease renewed every second, or more often if it is so short that it would expire."""
    interval = min(1.0, won.lease_seconds / 4)
    # Celery replaces this process, and the reconciler ends the job as its owner wants it.
    return Lease(_sessions(), won, stop, interval, end_process=partial(os._exit, 1))


def _give_up(won: Claim, lease: Lease, error: Exception) -> None:
    """Fail a job that could not even begin; otherwise it would use up its attempts, and its owner not learn why."""
    from worker.failures import DISK_FULL, describe  # noqa: PLC0415 - it imports torch, see worker.process

    code, message = describe(error)
    log.error("failed", code=code, message=message, exc_info=error)
    if code == DISK_FULL:
        COOLDOWN.begin()
    lease.settle(lambda session: fail(session, won, code=code, message=message))


def _claim(job_id: str, name: str, stop: StopRequest) -> Claim | None:
    for pause in CLAIM_PAUSES:
        if stop.asked:
            return None  # still queued in the database: the reconciler publishes it again
        try:
            with _sessions().begin() as session:
                return claim(
                    session,
                    job_id,
                    worker=name,
                    lease_seconds=settings().lease_seconds,
                    max_attempts=settings().max_attempts,
                )
        except DATABASE_AWAY as error:
            log.warning("claim_failed", job=job_id, error=str(error).splitlines()[0])
            time.sleep(pause)
    return None


@cache
def settings() -> Settings:
    """The configuration of this process, read once."""
    return read_settings()


@cache
def _sessions() -> Sessions:
    return sessions(connect(settings().database_url))
