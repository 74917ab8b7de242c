"""What a sweep does with jobs whose worker went silent, and with jobs that nobody has claimed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from intff.spec import read_spec
from store.attempts import Claim, claim
from store.clock import clock, database_time
from store.database import Sessions
from store.jobs import get_job, request_cancel, request_pause, request_resume, submit
from store.reconcile import Queued, Swept, mark_unpublished, sweep
from store.settings import LONGEST_LEASE_SECONDS
from store.tables import Attempt, Job, Worker
from store.workers import beat

SPEC = read_spec({"dataset": "digits"})
ON_GPU = read_spec({"dataset": "digits", "training": {"device": "cuda"}})


def held(session: Session) -> Claim:
    taken = claim(session, submit(session, SPEC).id, worker="w", lease_seconds=15, max_attempts=3)
    assert taken is not None
    return taken


def expire(session: Session, job_id: str) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=clock(-0.01)))
    session.expire_all()


def wait(session: Session, seconds: float) -> None:
    """Let time pass for every queued job: what was due later is due so much sooner."""
    for job in session.scalars(select(Job)).all():
        ahead = (job.publish_after - database_time(session)).total_seconds()
        session.execute(update(Job).where(Job.id == job.id).values(publish_after=clock(ahead - seconds)))
    session.expire_all()


def the(session: Session, job_id: str) -> Job:
    return get_job(session, job_id, owner=None)


def test_a_living_attempt_is_left_alone(db: Sessions) -> None:
    with db.begin() as session:
        held(session)
        assert sweep(session, max_attempts=3) == Swept()


def test_a_lost_job_waits_again_and_is_published_at_once(db: Sessions) -> None:
    with db.begin() as session:
        job_id = held(session).job_id
        expire(session, job_id)
        assert sweep(session, max_attempts=3) == Swept(requeued=[job_id], to_publish=[Queued(job_id, "cpu", 0)])
        row = the(session, job_id)
        assert (row.status, row.losses, row.worker, row.lease_expires_at) == ("queued", 1, None, None)
        assert session.scalars(select(Attempt.outcome)).all() == ["lost"]
        assert sweep(session, max_attempts=3) == Swept()


def test_a_job_that_lost_its_last_attempt_fails(db: Sessions) -> None:
    with db.begin() as session:
        job_id = held(session).job_id
        for losses in (1, 2):
            expire(session, job_id)
            assert sweep(session, max_attempts=3).requeued == [job_id]
            assert the(session, job_id).losses == losses
            assert claim(session, job_id, worker="w", lease_seconds=15, max_attempts=3) is not None
        expire(session, job_id)
        assert sweep(session, max_attempts=3) == Swept(failed=[job_id])
        row = the(session, job_id)
        assert (row.status, row.error_code, row.losses, row.attempt) == ("failed", "worker_lost", 3, 3)
        assert "3 attempts" in (row.error_message or "")
        assert row.finished_at is not None


@pytest.mark.parametrize("max_attempts", [1, 3])
@pytest.mark.parametrize(("move", "status"), [(request_cancel, "cancelled"), (request_pause, "paused")])
def test_a_lost_job_that_was_to_stop_stops(
    db: Sessions, move: Callable[[Session, str], Job], status: str, max_attempts: int
) -> None:
    with db.begin() as session:
        job_id = held(session).job_id
        move(session, job_id)
        expire(session, job_id)
        swept = sweep(session, max_attempts=max_attempts)
        assert swept == (Swept(cancelled=[job_id]) if status == "cancelled" else Swept(paused=[job_id]))
        row = the(session, job_id)
        assert (row.status, row.cancel_requested, row.pause_requested) == (status, False, False)
        assert (row.error_code, row.finished_at is not None) == (None, status == "cancelled")


def test_what_waits_for_a_time_before_the_clock_was_set_back_does_not_wait_for_it_again(db: Sessions) -> None:
    hours = 7 * 3600
    with db.begin() as session:
        job_id, waiting = held(session).job_id, submit(session, SPEC)
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=clock(hours)))
        session.execute(update(Job).where(Job.id == waiting.id).values(publish_after=clock(hours)))
        session.expire_all()
        assert sweep(session, max_attempts=3) == Swept(to_publish=[Queued(waiting.id, "cpu", 0)])
        left = the(session, job_id).lease_expires_at
        assert left is not None
        assert 50 < (left - database_time(session)).total_seconds() <= 60  # in which a living worker renews it
        assert sweep(session, max_attempts=3) == Swept()


def test_the_longest_lease_that_may_be_set_is_left_alone(db: Sessions) -> None:
    with db.begin() as session:
        job_id = submit(session, SPEC).id
        assert claim(session, job_id, worker="w", lease_seconds=LONGEST_LEASE_SECONDS, max_attempts=3) is not None
        before = the(session, job_id).lease_expires_at
        sweep(session, max_attempts=3)
        session.expire_all()
        assert the(session, job_id).lease_expires_at == before


def test_a_new_job_is_not_published_again_before_its_time(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC, republish_seconds=15)
        assert sweep(session, max_attempts=3).to_publish == []
        wait(session, 14)
        assert sweep(session, max_attempts=3).to_publish == []
        wait(session, 1.1)
        assert sweep(session, max_attempts=3).to_publish == [Queued(job.id, "cpu", 0)]
        assert sweep(session, max_attempts=3).to_publish == []


def test_an_unclaimed_job_is_published_ever_more_rarely(db: Sessions) -> None:
    with db.begin() as session:
        submit(session, SPEC, republish_seconds=15)
        for seconds in (15, 30, 60, 120, 240, 240, 240):
            wait(session, seconds - 1)
            assert sweep(session, max_attempts=3, republish_seconds=15).to_publish == []
            wait(session, 1.5)
            assert len(sweep(session, max_attempts=3, republish_seconds=15).to_publish) == 1


def test_a_job_that_the_broker_did_not_take_is_published_by_the_next_sweep(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC)
        mark_unpublished(session, [job.id])
        assert [due.id for due in sweep(session, max_attempts=3).to_publish] == [job.id]


def test_only_the_head_of_each_queue_is_published_and_the_most_urgent_first(db: Sessions) -> None:
    with db.begin() as session:
        plain = [submit(session, SPEC, republish_seconds=0).id for _ in range(101)]
        urgent = submit(session, SPEC, priority=9, republish_seconds=0).id
        gpu = submit(session, ON_GPU, republish_seconds=0).id
    with db.begin() as session:
        found = [due.id for due in sweep(session, max_attempts=3).to_publish]
    assert found == [urgent, *sorted(plain)[:99], gpu]


def test_paused_and_finished_jobs_are_not_published(db: Sessions) -> None:
    with db.begin() as session:
        request_pause(session, submit(session, SPEC, republish_seconds=0).id)
        request_cancel(session, submit(session, SPEC, republish_seconds=0).id)
        assert sweep(session, max_attempts=3) == Swept()


def test_a_resumed_job_is_published_by_its_caller_and_later_by_the_sweep(db: Sessions) -> None:
    with db.begin() as session:
        job_id = submit(session, SPEC).id
        request_pause(session, job_id)
        wait(session, 1000)
        request_resume(session, job_id)
        assert sweep(session, max_attempts=3).to_publish == []
        wait(session, 15.1)
        assert [due.id for due in sweep(session, max_attempts=3).to_publish] == [job_id]


def test_workers_not_heard_of_for_a_day_are_forgotten(db: Sessions) -> None:
    with db.begin() as session:
        beat(session, "old", queues=["cpu"], device="cpu")
        session.execute(update(Worker).values(seen_at=clock(-90_000)))
        beat(session, "new", queues=["cpu"], device="cpu")
        sweep(session, max_attempts=3)
        assert session.scalars(select(Worker.id)).all() == ["new"]
