"""A worker takes a job from the queue and publishes its model, with every database and every broker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from store.jobs import list_metrics
from store.statuses import JobStatus
from store.tables import NO_OWNER, Attempt, Model
from store.workers import live_queues

if TYPE_CHECKING:
    from tests.worker.conftest import Workshop

pytestmark = pytest.mark.slow


def test_a_job_is_trained_and_its_model_published(workshop: Workshop) -> None:
    worker = workshop.start_worker()
    job = workshop.submit(epochs=2)
    workshop.publish(job)  # a second message about the same job is harmless

    done = workshop.wait_until_succeeded(job)

    assert done.progress == {"epoch": 2, "epochs": 2, "fraction": 1.0, "eta_seconds": 0.0}
    assert done.result is not None
    assert done.result["epochs"] == 2
    with workshop.sessions() as session:
        assert [metrics["epoch"] for metrics in list_metrics(session, job.id, owner=NO_OWNER)] == [1, 2]
        assert [row.attempt for row in session.query(Attempt)] == [1]
        (model,) = session.query(Model)
        assert model.id == done.model_id
        assert live_queues(session) == {"cpu", "gpu"}
    folder = workshop.home / "artifacts" / model.prefix
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", "model.onnx", "spec.json", "weights.safetensors"}
    for name, record in model.manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == record["sha256"]

    worker.terminate()
    assert worker.wait(10) == 0
    with workshop.sessions() as session:
        assert live_queues(session) == set()
    assert list((workshop.home / "scratch").iterdir()) == []
    assert not (workshop.home / "artifacts" / "jobs" / job.id).exists()


@pytest.mark.parametrize(("database_url", "broker_url"), [("sqlite", "valkey")], indirect=True)
def test_a_job_that_cannot_be_trained_fails_with_its_code_and_the_worker_goes_on(workshop: Workshop) -> None:
    workshop.start_worker()
    job = workshop.submit(epochs=3, training={"device": "cuda"})  # which this worker is made not to see

    now = workshop.wait_for(job, lambda now: now.status.is_terminal)

    assert (now.status, now.error_code) == (JobStatus.FAILED, "device_unavailable")
    workshop.wait_until_succeeded(workshop.submit(epochs=1))
