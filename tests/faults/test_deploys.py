"""A deploy sends SIGTERM or SIGHUP: another worker goes on with the job within seconds, and nothing is counted."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from store.statuses import AttemptOutcome, JobStatus

if TYPE_CHECKING:
    from store.tables import Job
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 600


def test_a_rolling_deploy(installation: Installation, weights_of: References, survived: Survived) -> None:
    """Two workers of three are stopped in turn while the same job goes on."""
    installation.start(workers=3)
    job = installation.submit(EPOCHS)
    gaps = []
    for sent in (signal.SIGTERM, signal.SIGHUP):
        now = installation.wait_for(job, lambda now: now.status is JobStatus.RUNNING and now.latest_metrics)
        before = now.attempt
        assert now.worker is not None
        holder = next(each for each in installation.workers if now.worker.startswith(each.name))
        done_before = len(installation.epochs(job))
        told = time.monotonic()
        holder.process.send_signal(sent)
        after = wait_for_attempt(installation, job, before + 1)
        gaps.append(time.monotonic() - told)
        assert holder.process.wait(20) == 0
        assert after.checkpoint is not None
        assert after.checkpoint["epoch"] >= done_before  # of the last moment, not of some time ago

    done = installation.wait_until_succeeded(job)
    assert done.losses == 0
    handed = AttemptOutcome.HANDED_BACK
    assert installation.outcomes(job) == [handed, handed, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    assert max(gaps) < 5.0
    survived("SIGTERM, SIGHUP of a worker in training", times=2, figure=f"another one went on after {max(gaps):.1f} s")


def wait_for_attempt(installation: Installation, job: str, number: int) -> Job:
    return installation.wait_for(job, lambda now: now.attempt == number)


def test_stopping_an_idle_worker_and_a_busy_api(installation: Installation, survived: Survived) -> None:
    installation.start(workers=1)
    assert installation.workers[0].terminate() == 0
    job = installation.submit(1)
    assert installation.apis[0].terminate() in {0, -signal.SIGTERM}  # uvicorn ends by the signal it was sent
    installation.apis[0].start()
    installation.workers[0].start()
    installation.wait_until_succeeded(job)
    assert installation.job(job).status is JobStatus.SUCCEEDED
    survived("SIGTERM of an idle worker, and of an API", times=2)
