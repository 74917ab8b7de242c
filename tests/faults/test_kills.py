"""`kill -9` at every moment of a job's life: it succeeds without help, and its weights are those of a run in peace."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from store.statuses import AttemptOutcome, JobStatus
from store.tables import Job
from tests.faults.installation import is_ready, lives

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 400
Moment = Callable[["Installation", str], bool]


def claimed(site: Installation, job: str) -> bool:
    return site.job(job).status is JobStatus.RUNNING


def training(site: Installation, job: str) -> bool:
    return site.job(job).latest_metrics is not None


def writing_a_checkpoint(site: Installation, job: str) -> bool:
    return any(site.artifacts.glob(f"jobs/{job}/attempt-*/.*.unfinished"))


def exporting(site: Installation, job: str) -> bool:
    return any((site.home / "scratch").glob(f"{job}-*/.model-*"))


def storing_the_model(site: Installation, job: str) -> bool:
    return any(site.artifacts.glob(f"models/{job}/.*.unfinished"))


def about_to_publish(site: Installation, job: str) -> bool:
    return any(site.artifacts.glob(f"models/{job}/attempt-*"))


def published(site: Installation, job: str) -> bool:
    return site.job(job).status is JobStatus.SUCCEEDED


MOMENTS: tuple[Moment, ...] = (
    claimed,
    training,
    writing_a_checkpoint,
    exporting,
    storing_the_model,
    about_to_publish,
    published,
)


def test_killing_the_trainer_at_every_moment(
    installation: Installation, weights_of: References, survived: Survived
) -> None:
    installation.start()
    reference = weights_of(EPOCHS)
    for moment in MOMENTS:
        job = installation.submit(EPOCHS)
        trainer = installation.trainer()
        deadline = time.monotonic() + 90
        while not moment(installation, job):
            assert time.monotonic() < deadline
        trainer.kill()
        killed = time.monotonic()
        figure = ""
        if installation.job(job).status is not JobStatus.SUCCEEDED:
            installation.wait_for(job, lambda now: now.attempt == 2)
            figure = f"going on after {time.monotonic() - killed:.1f} s"

        installation.wait_until_succeeded(job)
        installation.require_whole(job, EPOCHS)
        assert installation.weights(job) == reference
        survived(f"kill -9 of the trainer while {moment.__name__.replace('_', ' ')}", figure=figure)
    installation.wait_until_tidy()


def test_killing_a_whole_worker(installation: Installation, weights_of: References, survived: Survived) -> None:
    installation.start(workers=2)
    job = installation.submit(EPOCHS)
    began = installation.wait_for(job, lambda now: now.checkpoint)
    assert began.worker is not None
    holder = next(each for each in installation.workers if began.worker.startswith(each.name))
    family = holder.family

    holder.kill()
    killed = time.monotonic()
    installation.wait_for(job, lambda now: now.attempt == 2)
    took = time.monotonic() - killed
    done = installation.wait_until_succeeded(job)

    installation.wait(lambda: not any(lives(each) for each in family), "its family is gone", seconds=1)
    assert done.worker is None
    assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    survived("kill -9 of a whole worker", figure=f"another one went on after {took:.1f} s")


def test_killing_an_api_while_clients_submit(installation: Installation, survived: Survived) -> None:
    """Every job that a client was told of is there, once, and a request sent again makes no second one."""
    installation.start(apis=2, workers=0)
    accepted: list[str] = []

    def submit_many(api: int) -> None:
        accepted.extend(installation.submit(1, api=api) for _ in range(25))

    clients = [Thread(target=submit_many, args=(api,)) for api in (0, 1, 0, 1)]
    for client in clients:
        client.start()
    kills = 0
    while any(client.is_alive() for client in clients):
        victim = installation.apis[kills % 2]
        time.sleep(0.3)
        victim.kill()
        victim.start()
        kills += 1
        url = installation.urls[(kills - 1) % 2]
        installation.wait(partial(is_ready, url), "the API is back")
    for client in clients:
        client.join()

    assert len(accepted) == 100
    assert len(set(accepted)) == 100
    with installation.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 100
    # What was accepted just before a kill was never published by that API; the reconcilers do it.
    installation.wait(lambda: installation.waiting_messages() >= 100, "every job's id is in the queue")
    survived("kill -9 of an API among submissions", times=kills, figure="100 accepted, 100 kept, none twice")
