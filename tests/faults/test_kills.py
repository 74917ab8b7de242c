"""`kill -9` at every moment of a job's life: it succeeds without help, and its weights are those of a run in peace."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from intff.spec import read_spec
from store.jobs import submit
from store.statuses import AttemptOutcome
from store.tables import Job
from tests.faults.installation import LEASE_SECONDS, SWEEP_SECONDS, is_ready, lives, spec

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 600
SLACK_SECONDS = 3.0  # for a machine with two cores and ten processes
FEW = 60  # where the moment comes however short the training is

# Python reads this file at its start, in every process of the worker. Some moments last a millisecond: whoever
# looks on from outside misses them, so the process kills itself when it does what the trap names.
_TRAP = """
import fnmatch, os, signal, sys

place = os.environ["TRAP"]


def spring(event, arguments):
    if event not in {"open", "tempfile.mkdtemp"}:
        return
    try:
        awaited, pattern = os.readlink(place).split(" ", 1)
    except OSError:
        return
    if event == awaited and fnmatch.fnmatch(str(arguments[0]), pattern):
        os.unlink(place)
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(spring)
"""

# What the process is just about to open or to make, and for how many epochs it trains.
MOMENTS = {
    "has just claimed": ("tempfile.mkdtemp */scratch/{job}-*", FEW),
    "writes a checkpoint": ("open */jobs/{job}/*/.checkpoint-*.unfinished/state.safetensors", EPOCHS),
    "exports": ("tempfile.mkdtemp */scratch/{job}-*/.model-*", FEW),
    "stores the model": ("open */models/{job}/.*.unfinished/spec.json", FEW),
    "is about to publish": ("open */models/{job}", FEW),  # the folder is there, and is synced
}


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    folder = tmp_path / "trap"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_TRAP)
    return folder / "set"


@pytest.fixture
def settings(trap: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(trap.parent), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "TRAP": str(trap)}


def require_it_goes_on(installation: Installation, job: str) -> str:
    """The death is noticed within the lease and a sweep, and another attempt follows."""
    killed = time.monotonic()
    installation.wait_for(job, lambda now: now.losses == 1, seconds=LEASE_SECONDS + SWEEP_SECONDS + SLACK_SECONDS)
    noticed = time.monotonic() - killed
    installation.wait_for(job, lambda now: now.attempt == 2)
    return f"noticed after {noticed:.1f} s, going on after {time.monotonic() - killed:.1f} s"


def test_killing_the_trainer_at_every_moment(
    installation: Installation, trap: Path, weights_of: References, survived: Survived
) -> None:
    installation.start()
    for moment, (doing, epochs) in MOMENTS.items():
        installation.wait(lambda: installation.is_fit(installation.workers[0]), "there is a trainer")
        with installation.sessions.begin() as session:
            job = submit(session, read_spec(spec(epochs))).id
        trap.symlink_to(doing.format(job=job))  # before anybody can have heard of the job
        installation.wait(lambda: not trap.is_symlink(), f"the trainer {moment}")
        figure = require_it_goes_on(installation, job)
        installation.wait_until_succeeded(job)
        installation.require_whole(job, epochs)
        assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
        assert installation.weights(job) == weights_of(epochs)
        survived(f"kill -9 of the trainer when it {moment}", figure=figure)
    installation.wait_until_tidy()


def test_killing_the_trainer_in_training_and_after_its_success(
    installation: Installation, weights_of: References, survived: Survived
) -> None:
    installation.start()
    job = installation.submit(EPOCHS)
    installation.wait_for(job, lambda now: now.latest_metrics)
    installation.trainer().kill()
    figure = require_it_goes_on(installation, job)
    installation.wait_until_succeeded(job)
    installation.trainer().kill()
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    installation.wait_until_tidy()
    survived("kill -9 of the trainer in training, and after its success", times=2, figure=figure)


def test_killing_a_whole_worker(installation: Installation, weights_of: References, survived: Survived) -> None:
    installation.start(workers=2)
    job = installation.submit(EPOCHS)
    began = installation.wait_for(job, lambda now: now.checkpoint)
    assert began.worker is not None
    holder = next(each for each in installation.workers if began.worker.startswith(each.name))
    family = holder.family

    holder.kill()
    figure = require_it_goes_on(installation, job)
    done = installation.wait_until_succeeded(job)

    installation.wait(lambda: not any(lives(each) for each in family), "its family is gone", seconds=1)
    assert done.worker is None
    assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    survived("kill -9 of a whole worker", figure=figure)


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
