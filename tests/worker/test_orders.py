"""A running job obeys its owner: it is cancelled within two seconds, and a paused one goes on where it was."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from store.jobs import list_metrics, request_cancel, request_pause, request_resume
from store.statuses import JobStatus
from store.tables import NO_OWNER

if TYPE_CHECKING:
    from tests.worker.conftest import Workshop

EMBEDDED_AND_DISTRIBUTED = pytest.mark.parametrize(
    ("database_url", "broker_url"), [("sqlite", "valkey"), ("postgresql", "redis")], indirect=True
)


EPOCHS = 1500  # of a hundredth of a second: on a fast machine too, the order comes long before the end


@pytest.mark.slow
@EMBEDDED_AND_DISTRIBUTED
def test_a_running_job_is_cancelled_within_two_seconds_and_leaves_no_files(workshop: Workshop) -> None:
    workshop.start_worker()
    job = workshop.submit(epochs=9000)
    workshop.wait_for(job, lambda now: now.checkpoint)
    scratch = [f"scratch/{path.name}" for path in (workshop.home / "scratch").iterdir()]
    assert len(scratch) == 1

    with workshop.sessions.begin() as session:
        request_cancel(session, job.id, owner=NO_OWNER)
    asked = time.monotonic()
    workshop.wait_for(job, lambda now: now.status is JobStatus.CANCELLED)

    assert time.monotonic() - asked < 2.0
    workshop.wait_until_gone(f"artifacts/jobs/{job.id}", *scratch)


@pytest.mark.slow
@EMBEDDED_AND_DISTRIBUTED
def test_a_paused_job_goes_on_from_its_last_checkpoint(workshop: Workshop) -> None:
    workshop.start_worker()
    job = workshop.submit(epochs=EPOCHS)
    workshop.wait_for(job, lambda now: now.checkpoint)

    with workshop.sessions.begin() as session:
        request_pause(session, job.id, owner=NO_OWNER)
    paused = workshop.wait_for(job, lambda now: now.status is JobStatus.PAUSED)
    assert paused.checkpoint is not None
    with workshop.sessions.begin() as session:
        queued = request_resume(session, job.id, owner=NO_OWNER)
    workshop.publish(queued)
    done = workshop.wait_until_succeeded(job)

    assert done.attempt == 2
    assert f"first_epoch={paused.checkpoint['epoch'] + 1} " in workshop.log
    expected = list(range(1, EPOCHS + 1))
    with workshop.sessions() as session:
        assert [metrics["epoch"] for metrics in list_metrics(session, job.id, owner=NO_OWNER)] == expected
