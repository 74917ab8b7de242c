"""Fifty kills at random, of trainers, workers and APIs, with several jobs under way: nothing is lost or doubled."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from store.clock import clock
from store.statuses import JobStatus
from store.tables import Job, Model
from tests.faults.installation import is_ready

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation, Program

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 600
SEEDS = (0, 1)
KILLS = ["busy trainer"] * 18 + ["trainer"] * 10 + ["worker"] * 8 + ["api"] * 14


@pytest.fixture
def settings() -> dict[str, str]:
    return {"INTFF_MAX_ATTEMPTS": "100"}  # fifty kills may hit one job


@pytest.fixture
def tended(installation: Installation) -> Iterator[Installation]:
    """A program that ends is started again, as Docker and `intff serve` do it."""
    over = Event()

    def tend() -> None:
        while not over.wait(0.2):
            for program in [*installation.apis, *installation.workers]:
                if program.process.poll() is not None:
                    program.start()

    thread = Thread(target=tend)
    thread.start()
    yield installation
    over.set()
    thread.join()


@pytest.mark.timeout(600)
def test_fifty_kills_at_random(tended: Installation, weights_of: References, survived: Survived) -> None:
    installation = tended
    installation.start(apis=2, workers=2)
    jobs = {installation.submit(EPOCHS, seed=seed): seed for seed in SEEDS * 3}
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    installation.remark = f"random.Random({seed}) chose the kills"
    began = time.monotonic()
    kills = chance.sample(KILLS, len(KILLS))
    while kills:
        time.sleep(chance.uniform(0.2, 2.5))
        if not installation.unfinished():  # something has to be under way at every kill
            jobs[installation.submit(EPOCHS, seed=SEEDS[0])] = SEEDS[0]
        if kill(installation, kills[-1], chance.randrange(2)):
            kills.pop()
    killing = time.monotonic() - began

    for job in jobs:
        installation.wait_until_succeeded(job, seconds=180)
    recovered = time.monotonic() - began - killing
    for url in installation.urls:
        installation.wait(partial(is_ready, url), f"{url} is ready")
    references = {number: weights_of(EPOCHS, seed=number) for number in SEEDS}
    for job, number in jobs.items():
        installation.require_whole(job, EPOCHS)
        assert installation.weights(job) == references[number]
    with installation.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == len(jobs)
        losses = session.scalar(select(func.sum(Job.losses)))
    installation.wait_until_tidy()
    survived(
        "random kill -9 of trainers, workers and APIs",
        times=len(KILLS),
        figure=f"in {killing:.0f} s; {losses} attempts lost, {len(jobs)} of {len(jobs)} jobs succeeded "
        f"{recovered:.0f} s later with the same weights",
    )


def kill(installation: Installation, what: str, number: int) -> bool:
    """Kill one of them, if there is one just now."""
    program = (installation.apis if what == "api" else installation.workers)[number]
    victim = program.trainer if "trainer" in what else program.process
    if victim is None or program.process.poll() is not None:
        return False
    if what == "busy trainer" and not has_job(installation, program):
        return False
    victim.kill()
    return True


def has_job(installation: Installation, worker: Program) -> bool:
    running = (Job.status == JobStatus.RUNNING, Job.lease_expires_at > clock(), Job.worker.startswith(worker.name))
    with installation.sessions() as session:
        return bool(session.scalar(select(func.count()).select_from(Job).where(*running)))
