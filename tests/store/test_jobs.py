"""Submitting, listing, and the moves that an owner asks for: which are allowed, and what each leads to."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from intff.spec import TrainSpec, read_spec
from store.attempts import claim, fail, succeed
from store.database import Sessions, read_sessions
from store.errors import Conflict, NotFound, QuotaExceeded
from store.jobs import (
    count_active,
    get_job,
    list_jobs,
    list_metrics,
    request_cancel,
    request_pause,
    request_resume,
    revisions,
    submit,
)
from store.statuses import JobStatus
from store.tables import NO_OWNER, Job

SPEC = read_spec({"dataset": "digits"})

MOVES = {"cancel": request_cancel, "pause": request_pause, "resume": request_resume}


def job_in(session: Session, state: str) -> Job:
    """A new job that has been led into a state along the way that any job takes."""
    job = submit(session, SPEC)
    if state in {"queued", "paused", "cancelled"}:
        if state != "queued":
            MOVES[{"paused": "pause", "cancelled": "cancel"}[state]](session, job.id)
        return job
    held = claim(session, job.id, worker="w", lease_seconds=60, max_attempts=3)
    assert held is not None
    if state == "succeeded":
        assert succeed(session, held, manifest={}, prefix="p", result={}) is not None
    elif state == "failed":
        assert fail(session, held, code="diverged", message="NaN")
    elif state in {"cancelling", "pausing"}:
        MOVES[{"cancelling": "cancel", "pausing": "pause"}[state]](session, job.id)
    return job


@pytest.mark.parametrize(
    ("state", "move", "status", "flags"),
    [
        ("queued", "cancel", "cancelled", ""),
        ("queued", "pause", "paused", ""),
        ("queued", "resume", "queued", ""),
        ("running", "cancel", "running", "cancel"),
        ("running", "pause", "running", "pause"),
        ("running", "resume", "running", ""),
        ("cancelling", "cancel", "running", "cancel"),
        ("pausing", "cancel", "running", "cancel"),
        ("pausing", "pause", "running", "pause"),
        ("pausing", "resume", "running", ""),
        ("paused", "cancel", "cancelled", ""),
        ("paused", "pause", "paused", ""),
        ("paused", "resume", "queued", ""),
        ("cancelled", "cancel", "cancelled", ""),
    ],
)
def test_a_move_leads_where_it_should_and_repeating_it_changes_nothing(
    db: Sessions, state: str, move: str, status: str, flags: str
) -> None:
    with db.begin() as session:
        job_id = job_in(session, state).id
    for _ in range(2):
        with db.begin() as session:
            job = MOVES[move](session, job_id)
            flag = ("cancel" if job.cancel_requested else "") + ("pause" if job.pause_requested else "")
            assert (job.status, flag) == (status, flags)
            assert (job.finished_at is not None) == (status == "cancelled")
            revision = job.revision
    with db.begin() as session:
        assert revisions(session, [job_id]) == {job_id: revision}
        assert MOVES[move](session, job_id).revision == revision


@pytest.mark.parametrize(
    ("state", "move"),
    [
        ("succeeded", "cancel"),
        ("succeeded", "pause"),
        ("succeeded", "resume"),
        ("failed", "cancel"),
        ("failed", "pause"),
        ("failed", "resume"),
        ("cancelled", "pause"),
        ("cancelled", "resume"),
        ("cancelling", "pause"),
        ("cancelling", "resume"),
    ],
)
def test_an_impossible_move_is_a_conflict_and_changes_nothing(db: Sessions, state: str, move: str) -> None:
    with db.begin() as session:
        job_id = job_in(session, state).id
        before = get_job(session, job_id, owner=None).revision
    with db.begin() as session, pytest.raises(Conflict, match=job_id) as refused:
        MOVES[move](session, job_id)
    assert refused.value.code == "conflict"
    with db() as session:
        assert get_job(session, job_id, owner=None).revision == before


def test_a_submitted_job_has_its_whole_spec_and_all_that_was_said_about_it(db: Sessions) -> None:
    with db.begin() as session:
        made = submit(session, SPEC, owner="ann", name="first", metadata={"lab": 7}, priority=9)
    with db() as session:
        job = get_job(session, made.id, owner="ann")
    assert (job.status, job.attempt, job.losses, job.priority, job.queue) == ("queued", 0, 0, 9, "cpu")
    assert (job.name, job.metadata_) == ("first", {"lab": 7})
    assert TrainSpec.model_validate(job.spec) == SPEC
    assert job.created_at.utcoffset() is not None
    assert (job.started_at, job.finished_at, job.result, job.model_id) == (None, None, None, None)


def test_a_job_for_a_gpu_goes_into_its_queue(db: Sessions) -> None:
    with db.begin() as session:
        assert submit(session, read_spec({"training": {"device": "cuda"}})).queue == "gpu"


def test_the_same_request_under_the_same_key_makes_one_job(db: Sessions) -> None:
    with db.begin() as session:
        first = submit(session, SPEC, idempotency_key="k", metadata={"a": 1, "b": 2})
    with db.begin() as session:
        again = submit(session, SPEC, idempotency_key="k", metadata={"b": 2, "a": 1})
    with db.begin() as session:
        other = submit(session, SPEC, metadata={"a": 1, "b": 2})
    assert again.id == first.id != other.id


@pytest.mark.parametrize("change", [{"name": "n"}, {"priority": 1}, {"metadata": {"a": 1}}])
def test_another_request_under_the_same_key_is_a_conflict(db: Sessions, change: dict[str, object]) -> None:
    with db.begin() as session:
        submit(session, SPEC, idempotency_key="k")
    with db.begin() as session, pytest.raises(Conflict, match="Idempotency-Key") as refused:
        submit(session, SPEC, idempotency_key="k", **change)  # type: ignore[arg-type]  # each is right for its field
    assert refused.value.code == "idempotency_key_reused"


def test_each_owner_has_keys_of_their_own(db: Sessions) -> None:
    with db.begin() as session:
        anns = submit(session, SPEC, owner="ann", idempotency_key="k")
        bobs = submit(session, SPEC, owner="bob", idempotency_key="k", name="other")
    assert anns.id != bobs.id


def test_a_quota_counts_unfinished_jobs_of_the_owner_only(db: Sessions) -> None:
    with db.begin() as session:
        submit(session, SPEC, owner="bob", max_queued_jobs=2)
        first = submit(session, SPEC, owner="ann", max_queued_jobs=2, idempotency_key="k")
        submit(session, SPEC, owner="ann", max_queued_jobs=2)
        assert count_active(session, "ann") == 2
        with pytest.raises(QuotaExceeded, match="at most 2"):
            submit(session, SPEC, owner="ann", max_queued_jobs=2)
        assert submit(session, SPEC, owner="ann", max_queued_jobs=2, idempotency_key="k").id == first.id
        request_cancel(session, first.id, owner="ann")
        submit(session, SPEC, owner="ann", max_queued_jobs=2)


def test_another_owners_job_is_not_there(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC, owner="ann")
        for owner in ("bob", NO_OWNER):
            assert list_jobs(session, owner=owner).rows == []
            for asking in (get_job, list_metrics, request_cancel, request_pause, request_resume):
                with pytest.raises(NotFound, match=job.id):
                    asking(session, job.id, owner=owner)
        assert get_job(session, job.id, owner="ann").status == JobStatus.QUEUED
        assert get_job(session, job.id, owner=None).id == job.id


def test_pages_go_from_the_newest_to_the_oldest_without_a_gap(db: Sessions) -> None:
    with db.begin() as session:
        made = [submit(session, SPEC).id for _ in range(5)]
        submit(session, SPEC, owner="ann")
    newest_first = sorted(made, reverse=True)
    with db() as session:
        first = list_jobs(session, limit=2)
        second = list_jobs(session, limit=2, after=first.rows[-1].id)
        third = list_jobs(session, limit=2, after=second.rows[-1].id)
    assert [job.id for page in (first, second, third) for job in page.rows] == newest_first
    assert [page.has_more for page in (first, second, third)] == [True, True, False]


def test_a_list_can_be_narrowed_to_a_status_and_a_name(db: Sessions) -> None:
    with db.begin() as session:
        one = submit(session, SPEC, name="a").id
        submit(session, SPEC, name="b")
        two = submit(session, SPEC, name="a").id
        request_cancel(session, two)
        assert {job.id for job in list_jobs(session, name="a").rows} == {one, two}
        assert [job.id for job in list_jobs(session, name="a", status=JobStatus.CANCELLED).rows] == [two]
        assert list_jobs(session, name="a", status=JobStatus.FAILED).rows == []


def test_a_reader_sees_what_was_committed_while_a_writer_is_busy(engine: Engine, db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC)
    with db.begin() as writer, read_sessions(engine)() as reader:
        request_cancel(writer, job.id)
        assert get_job(reader, job.id, owner=None).status == JobStatus.QUEUED
