"""The broker crashes, forgets, freezes and stays away: jobs are accepted as fast as ever, and all of them end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from store.statuses import JobStatus
from tests.faults.installation import spec
from tests.faults.servers import PrivateValkey

if TYPE_CHECKING:
    from tests.faults.conftest import Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

ABSENCE_SECONDS = 30
LONG = 4000


@pytest.fixture
def valkey() -> Iterator[PrivateValkey]:
    """A Redis where there is one."""
    server = PrivateValkey(prefer_redis=True)
    server.start()
    yield server
    server.close()


def post(installation: Installation) -> tuple[str, float]:
    """Submit with a single request; its job, and how long the answer took."""
    asked = time.monotonic()
    answer = installation.post("/v1/jobs", {"spec": spec(1)})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"], time.monotonic() - asked


def test_a_broker_that_answers_with_errors(
    installation: Installation, valkey: PrivateValkey, survived: Survived
) -> None:
    installation.start()
    installation.wait_until_succeeded(installation.submit(1))
    valkey.follow()
    time.sleep(3)
    valkey.lead()
    installation.wait_until_succeeded(installation.submit(1))
    assert installation.workers[0].process.poll() is None
    survived("broker that was a replica for 3 s")


def test_a_broker_that_is_restarted_flushed_frozen_and_away(
    installation: Installation, valkey: PrivateValkey, survived: Survived
) -> None:
    installation.start()
    long = installation.submit(LONG)
    installation.wait_for(long, lambda now: now.status is JobStatus.RUNNING)
    jobs, waits = [], []

    def submit() -> None:
        job, seconds = post(installation)
        jobs.append(job)
        waits.append(seconds)

    submit()
    valkey.flush()
    survived("broker flushed with messages in it")
    submit()
    valkey.stop()
    valkey.start()  # empty: it keeps nothing
    survived("broker crashed and restarted empty")
    submit()
    valkey.freeze()
    for _ in range(3):
        submit()
        time.sleep(2)
    valkey.thaw()
    survived("broker frozen for 6 s")
    valkey.stop()
    gone = time.monotonic()
    while time.monotonic() - gone < ABSENCE_SECONDS:
        submit()
        time.sleep(5)
    assert installation.get("/readyz").status_code == 503
    valkey.start()
    back = time.monotonic()
    assert max(waits) < 5.0

    assert installation.job(long).status in {JobStatus.RUNNING, JobStatus.SUCCEEDED}  # training needs no broker
    installation.post(f"/v1/jobs/{long}/cancel")
    first = jobs[0]
    installation.wait_until_succeeded(first)
    recovered = time.monotonic() - back
    for job in jobs:
        installation.wait_until_succeeded(job, seconds=120)
        installation.require_whole(job, 1)
        assert installation.job(job).attempt == 1
    assert installation.wait_until_ended(long).attempt == 1
    installation.require_all_epochs(long)
    figure = f"slowest POST {max(waits):.2f} s; {len(jobs)} accepted, all ended, the first {recovered:.1f} s later"
    survived(f"broker absent for {ABSENCE_SECONDS} s", figure=figure)
