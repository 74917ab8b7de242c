"""What the death of a worker costs: no job, no weight's last bit, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt, Job, Model

if TYPE_CHECKING:
    from tests.worker.conftest import Workshop

EMBEDDED_AND_DISTRIBUTED = pytest.mark.parametrize(
    ("database_url", "broker_url"), [("sqlite", "valkey"), ("postgresql", "redis")], indirect=True
)
EMBEDDED = pytest.mark.parametrize(("database_url", "broker_url"), [("sqlite", "valkey")], indirect=True)
EPOCHS = 1200  # some ten seconds: a few checkpoints


def weights_of(workshop: Workshop, job: Job) -> str:
    with workshop.sessions() as session:
        (model,) = session.query(Model).filter(Model.job_id == job.id)
    sha256: str = model.manifest["files"]["weights.safetensors"]["sha256"]
    return sha256


def outcomes_of(workshop: Workshop, job: Job) -> list[AttemptOutcome | None]:
    with workshop.sessions() as session:
        rows = session.query(Attempt).filter(Attempt.job_id == job.id).order_by(Attempt.attempt)
        return [row.outcome for row in rows]


@pytest.mark.slow
@EMBEDDED_AND_DISTRIBUTED
def test_a_worker_told_to_stop_hands_its_job_to_another_one(workshop: Workshop) -> None:
    first = workshop.start_worker()
    job = workshop.submit(epochs=EPOCHS)
    workshop.wait_for(job, lambda now: now.latest_metrics)

    first.send_signal(signal.SIGTERM)
    told = time.monotonic()
    handed_back = workshop.wait_for(job, lambda now: now.status is JobStatus.QUEUED)
    assert time.monotonic() - told < 2.0
    assert first.wait(10) == 0
    assert handed_back.losses == 0
    workshop.start_worker()
    workshop.wait_until_succeeded(job)  # its id was published again: nobody swept here

    assert outcomes_of(workshop, job) == [AttemptOutcome.HANDED_BACK, AttemptOutcome.SUCCEEDED]


@pytest.mark.slow
@EMBEDDED_AND_DISTRIBUTED
def test_a_job_whose_process_was_killed_ends_with_the_same_weights(workshop: Workshop) -> None:
    worker = workshop.start_worker()
    whole = workshop.submit(epochs=EPOCHS)
    workshop.wait_until_succeeded(whole)

    job = workshop.submit(epochs=EPOCHS)
    workshop.wait_for(job, lambda now: now.checkpoint)
    workshop.trainer_of(worker).kill()
    workshop.sweep_until_queued(job)
    done = workshop.wait_until_succeeded(job)

    assert outcomes_of(workshop, job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    assert done.losses == 1
    assert weights_of(workshop, job) == weights_of(workshop, whole)
    workshop.wait_until_gone(f"artifacts/jobs/{job.id}")


@pytest.mark.slow
@EMBEDDED
def test_nothing_is_left_of_a_worker_that_was_killed(workshop: Workshop) -> None:
    worker = workshop.start_worker()
    job = workshop.submit(epochs=9000)
    workshop.wait_for(job, lambda now: now.checkpoint)
    family = psutil.Process(worker.pid).children(recursive=True)

    worker.kill()
    worker.wait()

    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert any((workshop.home / "scratch").iterdir())
    successor = workshop.start_worker()
    workshop.sweep_until_queued(job)
    scratch = workshop.home / "scratch"
    workshop.wait_for(job, lambda now: now.attempt == 2 and any(scratch.iterdir()))
    # The dead attempt's folder was swept at the start; the one there now is the second attempt's.
    assert [path.name.startswith(f"{job.id}-2") for path in scratch.iterdir()] == [True]
    successor.terminate()
    assert successor.wait(10) == 0


@pytest.mark.slow
@EMBEDDED
def test_a_second_request_ends_the_worker_at_once(workshop: Workshop) -> None:
    worker = workshop.start_worker()
    job = workshop.submit(epochs=9000)
    workshop.wait_for(job, lambda now: now.latest_metrics)
    family = psutil.Process(worker.pid).children(recursive=True)

    os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches the whole group
    os.killpg(worker.pid, signal.SIGQUIT)

    worker.wait(10)
    assert psutil.wait_procs(family, timeout=5)[1] == []
