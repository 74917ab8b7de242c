"""Cancel, pause and resume in every state, and racing with success: one end, and a running job obeys at once."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from store.statuses import TERMINAL, JobStatus
from store.tables import EpochMetricsRow, Job, Model
from tests.faults.installation import DIVERGING, LEASE_SECONDS

if TYPE_CHECKING:
    from tests.faults.conftest import Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]


@pytest.fixture
def installation(shared_installation: Installation) -> Installation:
    return shared_installation


MOVES = ("cancel", "pause", "resume")
# What each move answers, and where the job is then, at the latest when its worker has obeyed.
ANSWERS = {
    "queued": {"cancel": (200, "cancelled"), "pause": (200, "paused"), "resume": (200, "queued")},
    "running": {"cancel": (200, "cancelled"), "pause": (200, "paused"), "resume": (200, "running")},
    "paused": {"cancel": (200, "cancelled"), "pause": (200, "paused"), "resume": (200, "queued")},
    "cancelled": {"cancel": (200, "cancelled"), "pause": (409, "cancelled"), "resume": (409, "cancelled")},
    "succeeded": {"cancel": (409, "succeeded"), "pause": (409, "succeeded"), "resume": (409, "succeeded")},
    "failed": {"cancel": (409, "failed"), "pause": (409, "failed"), "resume": (409, "failed")},
}
OBEYS_WITHIN = 2.0


def order(installation: Installation, job: str, move: str) -> int:
    answer = installation.post(f"/v1/jobs/{job}/{move}")
    if answer.status_code == 409:
        assert answer.json()["code"] == "conflict"
    return answer.status_code


def test_every_order_in_every_state(installation: Installation, survived: Survived) -> None:
    slowest = 0.0
    for state, moves in ANSWERS.items():
        for move, (status, end) in moves.items():
            running = occupy(installation) if state in {"queued", "paused"} else None
            job = bring_to(installation, state)
            assert order(installation, job, move) == status, (state, move)
            asked = time.monotonic()
            installation.wait_until(job, end)
            if state == "running":
                slowest = max(slowest, time.monotonic() - asked)
            assert order(installation, job, move) in {status, 200}, "repeating an order is harmless"
            assert installation.job(job).status == end
            for each in filter(None, (job, running)):
                installation.post(f"/v1/jobs/{each}/cancel")
                installation.wait_until_ended(each)
    assert slowest < OBEYS_WITHIN
    combinations = sum(len(moves) for moves in ANSWERS.values())
    survived("cancel, pause and resume in every state", times=combinations, figure=f"obeyed within {slowest:.1f} s")


def occupy(installation: Installation) -> str:
    """Keep the only worker busy, so that other jobs stay in the queue."""
    job = installation.submit(9000)
    installation.wait_for(job, lambda now: now.status is JobStatus.RUNNING)
    return job


def bring_to(installation: Installation, state: str) -> str:
    """A job in this state."""
    epochs = 9000 if state in {"queued", "running", "paused", "cancelled"} else 3
    job = installation.submit(epochs, **(DIVERGING if state == "failed" else {}))
    if state in {"paused", "cancelled"}:
        order(installation, job, {"paused": "pause", "cancelled": "cancel"}[state])
    ready = {"running": lambda now: now.latest_metrics}.get(state, lambda now: now.status == state)
    installation.wait_for(job, ready)
    return job


def test_a_cancel_reaches_a_trainer_that_hangs(installation: Installation, survived: Survived) -> None:
    """In reading a checkpoint, where a pipe lies into which nobody writes: no code of the attempt runs any more."""
    job = installation.submit(9000)
    installation.wait_for(job, lambda now: now.latest_metrics)
    order(installation, job, "pause")
    installation.wait_until(job, "paused")
    kept = installation.job(job).checkpoint
    assert kept is not None
    state = installation.artifacts / kept["prefix"] / "state.safetensors"
    state.unlink()
    os.mkfifo(state)
    order(installation, job, "resume")
    installation.wait_until(job, "running")
    time.sleep(2 * LEASE_SECONDS)  # it hangs, and keeps its lease
    assert installation.job(job).attempt == 2

    assert order(installation, job, "cancel") == 200
    asked = time.monotonic()
    installation.wait_until(job, "cancelled")
    took = time.monotonic() - asked
    installation.wait_until_succeeded(installation.submit(1))  # by the process in the hanging one's place
    installation.wait_until_tidy()
    survived("a trainer that hangs, cancelled", figure=f"ended after {took:.1f} s")


def test_orders_racing_with_success(installation: Installation, survived: Survived) -> None:
    """Short jobs are cancelled, paused and resumed by several clients just when they end."""
    chance = random.Random(5)
    ends = dict.fromkeys(TERMINAL, 0)
    jobs, clients_each = 10, 4
    with ThreadPoolExecutor(clients_each) as clients:
        for _ in range(jobs):
            job = installation.submit(60)
            installation.wait_for(job, lambda now: now.status in {JobStatus.RUNNING, JobStatus.SUCCEEDED})
            time.sleep(chance.uniform(0.3, 1.5))
            moves = chance.choices(MOVES, weights=(1, 4, 5), k=clients_each)
            answered = clients.map(partial(order, installation, job), moves)
            answers = dict(zip(moves, answered, strict=True))
            if "cancel" not in moves:
                installation.post(f"/v1/jobs/{job}/resume")
            ended = installation.wait_until_ended(job)
            ends[ended.status] += 1
            with installation.sessions() as session:
                models = session.scalar(select(func.count()).select_from(Model).where(Model.job_id == job))
            assert models == (1 if ended.status is JobStatus.SUCCEEDED else 0)
            assert (ended.model_id is not None) == (ended.status is JobStatus.SUCCEEDED)
            assert (ended.status is JobStatus.CANCELLED) == (answers.get("cancel") == 200)
            time.sleep(0.3)
            assert installation.job(job).revision == ended.revision  # nothing touches it any more
    with installation.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == jobs
        doubled = select(EpochMetricsRow.job_id).group_by(EpochMetricsRow.job_id, EpochMetricsRow.epoch)
        assert session.execute(doubled.having(func.count() > 1)).all() == []
    installation.wait_until_tidy()
    told = ", ".join(f"{count} {status}" for status, count in ends.items() if count)
    survived("orders racing with each other and with success", times=clients_each * jobs, figure=told)
