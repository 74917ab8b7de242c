"""Jobs that diverge, eat the memory or kill their worker each time end with the right code, and the queue moves on."""

from __future__ import annotations

import resource
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from store.statuses import AttemptOutcome, JobStatus
from tests.faults.installation import DIVERGING

if TYPE_CHECKING:
    from tests.faults.conftest import Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]


@pytest.fixture
def installation(shared_installation: Installation) -> Installation:
    return shared_installation


def test_a_job_that_diverges(installation: Installation, survived: Survived) -> None:
    diverging = installation.submit(50, **DIVERGING)
    behind = installation.submit(1)

    failed = installation.wait_for(diverging, lambda now: now.status is JobStatus.FAILED)
    assert failed.error_code == "diverged"
    assert failed.error_message is not None
    assert "learning_rate" in failed.error_message
    installation.wait_until_succeeded(behind)
    assert installation.outcomes(diverging) == [AttemptOutcome.FAILED]
    installation.wait_until_tidy()
    survived("loss became NaN or infinite", figure="failed with diverged")


def test_a_job_that_needs_more_memory_than_there_is(installation: Installation, survived: Survived) -> None:
    installation.wait_until_succeeded(installation.submit(1))  # all that a job imports is in memory now
    trainer = installation.trainer()
    room = trainer.memory_info().vms + 300 * 2**20
    limit = psutil.Process(trainer.pid).rlimit(resource.RLIMIT_AS)
    psutil.Process(trainer.pid).rlimit(resource.RLIMIT_AS, (room, limit[1]))

    huge = installation.submit(50, architecture="64,(6000,6000)")
    behind = installation.submit(1)
    failed = installation.wait_for(huge, lambda now: now.status is JobStatus.FAILED)

    assert failed.error_code == "out_of_memory", failed.error_message
    installation.wait_until_succeeded(behind)
    assert installation.trainer().pid == trainer.pid
    psutil.Process(trainer.pid).rlimit(resource.RLIMIT_AS, limit)
    installation.wait_until_tidy()
    survived("memory limit of the trainer reached", figure="failed with out_of_memory; the same process went on")


def test_a_job_that_kills_its_worker_every_time(installation: Installation, survived: Survived) -> None:
    """As the kernel does when memory runs out; the job behind it is left in peace."""
    deadly = installation.submit(9000)
    behind = installation.submit(1)
    over = threading.Event()
    kills = 0

    def kill_whoever_trains_it() -> None:
        nonlocal kills
        attempt = 0
        while not over.wait(0.05):
            now = installation.job(deadly)
            if now.status is JobStatus.RUNNING and now.attempt > attempt and now.progress:
                attempt = now.attempt
                installation.trainer().kill()
                kills += 1

    killer = threading.Thread(target=kill_whoever_trains_it)
    killer.start()
    try:
        failed = installation.wait_for(deadly, lambda now: now.status is JobStatus.FAILED, seconds=180)
    finally:
        over.set()
        killer.join()

    assert (failed.error_code, failed.attempt, failed.losses) == ("worker_lost", 3, 3)
    assert installation.outcomes(deadly) == [AttemptOutcome.LOST] * 3
    assert kills == 3
    installation.wait_until_succeeded(behind)
    assert installation.job(behind).attempt == 1
    installation.wait_until_tidy()
    survived("job that kills its worker every time", times=kills, figure="failed with worker_lost; the next succeeded")


def test_a_worker_that_has_no_room_to_work_in(installation: Installation, survived: Survived) -> None:
    """A job that cannot even begin says so at once; a silent worker would cost it all its attempts and the reason."""
    scratch = installation.home / "scratch"
    if scratch.exists():
        scratch.rmdir()
    scratch.write_text("a file where the folder has to be")
    failed = installation.wait_for(installation.submit(1), lambda now: now.status is JobStatus.FAILED)

    assert (failed.error_code, failed.attempt, failed.losses) == ("internal_error", 1, 0)
    assert failed.error_message is not None
    assert "scratch" in failed.error_message
    scratch.unlink()
    installation.wait_until_succeeded(installation.submit(1))
    survived("no scratch folder can be made", figure="failed at once with the reason; the next job succeeded")
