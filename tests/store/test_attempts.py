"""What one attempt may write, and that an attempt which lost its job writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from intff.spec import read_spec
from store.attempts import (
    Claim,
    Orders,
    claim,
    fail,
    hand_back,
    record_checkpoint,
    record_epoch,
    renew,
    set_cancelled,
    set_paused,
    succeed,
)
from store.clock import clock, database_time
from store.database import Sessions
from store.jobs import get_job, list_metrics, request_cancel, request_pause, request_resume, submit
from store.models import get_model
from store.reconcile import sweep
from store.tables import Attempt, Job, Model

SPEC = read_spec({"dataset": "digits"})


def take(session: Session, job_id: str, worker: str = "w", max_attempts: int = 3) -> Claim | None:
    return claim(session, job_id, worker=worker, lease_seconds=15, max_attempts=max_attempts)


def held(session: Session) -> Claim:
    taken = take(session, submit(session, SPEC).id)
    assert taken is not None
    return taken


def expire(session: Session, job_id: str) -> None:
    """Let the lease have run out a moment ago, by the database's clock."""
    session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=clock(-0.01)))
    session.expire_all()


def outcomes(session: Session, job_id: str) -> list[tuple[int, str | None]]:
    rows = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.attempt))
    return [(row.attempt, row.outcome) for row in rows]


def the(session: Session, job_id: str) -> Job:
    return get_job(session, job_id, owner=None)


def test_a_claim_raises_the_attempt_and_holds_a_lease_by_the_databases_clock(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC)
        taken = take(session, job.id)
        assert taken == Claim(job.id, 1, SPEC.model_dump(mode="json"), (), "w", 15)
        row = the(session, job.id)
        assert (row.status, row.attempt, row.losses, row.worker) == ("running", 1, 0, "w")
        assert row.lease_expires_at is not None
        assert 14 < (row.lease_expires_at - database_time(session)).total_seconds() <= 15
        assert row.started_at is not None
        assert outcomes(session, job.id) == [(1, None)]


def test_a_job_that_somebody_holds_is_not_to_be_had(db: Sessions) -> None:
    with db.begin() as session:
        first = held(session)
        assert take(session, first.job_id, "other") is None
        assert the(session, first.job_id).attempt == 1


def test_an_unknown_job_is_not_to_be_had(db: Sessions) -> None:
    with db.begin() as session:
        assert take(session, "job_00000000000000000000000000") is None


@pytest.mark.parametrize("move", [request_cancel, request_pause])
def test_a_job_that_is_to_stop_is_not_claimed(db: Sessions, move: Callable[[Session, str], Job]) -> None:
    with db.begin() as session:
        waiting = submit(session, SPEC).id
        move(session, waiting)
        assert take(session, waiting) is None
        running = held(session).job_id
        move(session, running)
        expire(session, running)
        assert take(session, running) is None


def test_a_job_whose_lease_ran_out_goes_to_the_next_worker_and_counts_a_loss(db: Sessions) -> None:
    with db.begin() as session:
        first = held(session)
        record_checkpoint(session, first, {"epoch": 1})
        expire(session, first.job_id)
        second = take(session, first.job_id, "other")
        assert second is not None
        assert (second.attempt, second.worker, second.checkpoints) == (2, "other", ({"epoch": 1},))
        assert the(session, first.job_id).losses == 1
        assert outcomes(session, first.job_id) == [(1, "lost"), (2, None)]


def test_the_last_attempt_is_not_taken_over(db: Sessions) -> None:
    with db.begin() as session:
        job_id = held(session).job_id
        for attempt in (2, 3):
            expire(session, job_id)
            assert take(session, job_id) is not None
            assert the(session, job_id).attempt == attempt
        expire(session, job_id)
        assert take(session, job_id) is None


def test_renewing_moves_the_lease_says_how_far_and_brings_the_orders(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        expire(session, mine.job_id)
        orders = renew(session, mine, {"epoch": 1, "fraction": 0.5})
        assert orders is not None
        assert (orders.cancel, orders.pause) == (False, False)
        row = the(session, mine.job_id)
        assert row.progress == {"epoch": 1, "fraction": 0.5}
        assert row.lease_expires_at is not None
        assert row.lease_expires_at > database_time(session)
        request_pause(session, mine.job_id)
        assert (orders := renew(session, mine)) is not None
        assert (orders.cancel, orders.pause) == (False, True)
        assert the(session, mine.job_id).progress == {"epoch": 1, "fraction": 0.5}
        request_cancel(session, mine.job_id)
        assert (orders := renew(session, mine)) is not None
        assert (orders.cancel, orders.pause) == (True, False)


def test_an_epochs_report_moves_the_lease_and_brings_the_orders_too(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        expire(session, mine.job_id)
        assert record_epoch(session, mine, {"epoch": 1}, {"epoch": 1}) == Orders(cancel=False, pause=False)
        row = the(session, mine.job_id)
        assert row.lease_expires_at is not None
        assert row.lease_expires_at > database_time(session)
        request_pause(session, mine.job_id)
        assert record_epoch(session, mine, {"epoch": 2}, {"epoch": 2}) == Orders(cancel=False, pause=True)


def test_a_number_that_json_lacks_is_stored_as_null(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        renew(session, mine, {"eta_seconds": float("inf"), "losses": [1.0, float("nan")]})
    with db() as session:
        assert the(session, mine.job_id).progress == {"eta_seconds": None, "losses": [1.0, None]}


def test_an_epoch_that_is_trained_again_replaces_its_earlier_report(db: Sessions) -> None:
    with db.begin() as session:
        first = held(session)
        for epoch in (1, 2, 3):
            assert record_epoch(session, first, {"epoch": epoch, "loss": 1.0}, {"epoch": epoch})
        expire(session, first.job_id)
        second = take(session, first.job_id)
        assert second is not None
        assert record_epoch(session, second, {"epoch": 2, "loss": 0.5}, {"epoch": 2})
        assert record_epoch(session, second, {"epoch": 2, "loss": 0.5}, {"epoch": 2})
        assert list_metrics(session, first.job_id, owner=None) == [
            {"epoch": 1, "loss": 1.0},
            {"epoch": 2, "loss": 0.5},
        ]
        assert list_metrics(session, first.job_id, owner=None, after=1) == [{"epoch": 2, "loss": 0.5}]
        row = the(session, first.job_id)
        assert (row.latest_metrics, row.progress) == ({"epoch": 2, "loss": 0.5}, {"epoch": 2})


def test_the_newest_checkpoint_and_the_one_before_are_kept(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        for epoch in (1, 2, 3, 3):
            assert record_checkpoint(session, mine, {"prefix": f"c{epoch}", "epoch": epoch})
        expire(session, mine.job_id)
        following = take(session, mine.job_id)
        assert following is not None
        assert [checkpoint["epoch"] for checkpoint in following.checkpoints] == [3, 2]


def test_success_publishes_one_model_and_ends_the_job(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC, owner="ann", name="n")
        mine = take(session, job.id)
        assert mine is not None
        model = succeed(session, mine, manifest={"version": 1}, prefix="p/1", result={"test_accuracy": 0.98})
        assert model is not None
        assert succeed(session, mine, manifest={}, prefix="p/1", result={}) is None
    with db() as session:
        row = the(session, job.id)
        assert (row.status, row.result, row.model_id) == ("succeeded", {"test_accuracy": 0.98}, model.id)
        assert (row.worker, row.lease_expires_at) == (None, None)
        assert row.finished_at is not None
        kept = get_model(session, model.id, owner="ann")
        assert (kept.job_id, kept.name, kept.prefix, kept.manifest) == (job.id, "n", "p/1", {"version": 1})
        assert kept.spec == row.spec
        assert outcomes(session, job.id) == [(1, "succeeded")]


def test_a_failure_keeps_its_code_and_message(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        assert fail(session, mine, code="diverged", message="the loss was\0 NaN in epoch 3")
        row = the(session, mine.job_id)
        assert (row.status, row.error_code, row.error_message) == ("failed", "diverged", "the loss was NaN in epoch 3")
        assert outcomes(session, mine.job_id) == [(1, "failed")]


def test_a_cancel_that_was_accepted_wins_over_a_later_success_or_failure(db: Sessions) -> None:
    with db.begin() as session:
        for end in (
            lambda mine: succeed(session, mine, manifest={}, prefix="p", result={"test_accuracy": 1.0}),
            lambda mine: fail(session, mine, code="diverged", message="NaN"),
        ):
            mine = held(session)
            request_cancel(session, mine.job_id)
            end(mine)
            row = the(session, mine.job_id)
            assert (row.status, row.result, row.model_id, row.error_code) == ("cancelled", None, None, None)
            assert outcomes(session, mine.job_id) == [(1, "cancelled")]
        assert session.scalars(select(Model)).all() == []


def test_a_pause_that_came_too_late_does_not_keep_a_job_from_succeeding(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        request_pause(session, mine.job_id)
        assert succeed(session, mine, manifest={}, prefix="p", result={}) is not None
        assert the(session, mine.job_id).pause_requested is False


def test_a_job_that_is_handed_back_waits_again_without_a_loss(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        assert hand_back(session, mine) == "queued"
        row = the(session, mine.job_id)
        assert (row.status, row.losses, row.worker, row.finished_at) == ("queued", 0, None, None)
        assert row.publish_after <= database_time(session)
        assert outcomes(session, mine.job_id) == [(1, "handed_back")]
        following = take(session, mine.job_id)
        assert following is not None
        assert following.attempt == 2


@pytest.mark.parametrize(
    ("move", "status", "outcome"),
    [(request_cancel, "cancelled", "cancelled"), (request_pause, "paused", "paused")],
)
@pytest.mark.parametrize("stop", [hand_back, set_cancelled, set_paused])
def test_a_stopping_attempt_leaves_the_job_as_its_owner_wants_it(
    db: Sessions, move: Callable[[Session, str], Job], status: str, outcome: str, stop: Callable[..., Any]
) -> None:
    with db.begin() as session:
        mine = held(session)
        move(session, mine.job_id)
        assert stop(session, mine)
        row = the(session, mine.job_id)
        assert (row.status, row.cancel_requested, row.pause_requested) == (status, False, False)
        assert (row.finished_at is not None) == (status == "cancelled")
        assert outcomes(session, mine.job_id) == [(1, outcome)]


def test_a_pause_that_was_taken_back_while_the_attempt_stopped_leads_back_into_the_queue(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        request_pause(session, mine.job_id)
        request_resume(session, mine.job_id)
        assert set_paused(session, mine)
        assert the(session, mine.job_id).status == "queued"


def test_a_paused_job_goes_on_from_its_checkpoint(db: Sessions) -> None:
    with db.begin() as session:
        mine = held(session)
        record_checkpoint(session, mine, {"epoch": 4})
        request_pause(session, mine.job_id)
        set_paused(session, mine)
        request_resume(session, mine.job_id)
        following = take(session, mine.job_id)
        assert following is not None
        assert (following.attempt, following.checkpoints) == (2, ({"epoch": 4},))


WRITES: dict[str, Callable[[Session, Claim], object]] = {
    "renew": lambda session, old: renew(session, old, {"epoch": 9}),
    "record_epoch": lambda session, old: record_epoch(session, old, {"epoch": 9}, {"epoch": 9}),
    "record_checkpoint": lambda session, old: record_checkpoint(session, old, {"epoch": 9}),
    "succeed": lambda session, old: succeed(session, old, manifest={}, prefix="p", result={}),
    "fail": lambda session, old: fail(session, old, code="diverged", message="NaN"),
    "hand_back": hand_back,
    "set_cancelled": set_cancelled,
    "set_paused": set_paused,
}


def _taken_over(session: Session, old: Claim) -> None:
    expire(session, old.job_id)
    assert take(session, old.job_id, "other") is not None


def _swept(session: Session, old: Claim) -> None:
    expire(session, old.job_id)
    assert sweep(session, max_attempts=3).requeued == [old.job_id]


def _finished(session: Session, old: Claim) -> None:
    assert succeed(session, old, manifest={}, prefix="p", result={}) is not None


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lose", [_taken_over, _swept, _finished])
def test_an_attempt_that_lost_its_job_touches_nothing(
    db: Sessions, write: str, lose: Callable[[Session, Claim], None]
) -> None:
    with db.begin() as session:
        old = held(session)
        record_epoch(session, old, {"epoch": 1}, {"epoch": 1})
        lose(session, old)
    with db() as session:
        before = _everything(session)
    with db.begin() as session:
        assert not WRITES[write](session, old)
    with db() as session:
        assert _everything(session) == before


def _everything(session: Session) -> list[tuple[object, ...]]:
    tables = (Job.__table__, Attempt.__table__, Model.__table__)
    return [tuple(row) for table in tables for row in session.execute(select(table))] + [
        tuple(metrics) for job in session.scalars(select(Job.id)) for metrics in list_metrics(session, job, owner=None)
    ]
