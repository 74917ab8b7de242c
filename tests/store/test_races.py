"""Many hands on one job at the same moment: exactly one of them wins, and nothing is done twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from intff.spec import read_spec
from store.attempts import Claim, claim, fail, hand_back, record_epoch, renew, succeed
from store.clock import clock
from store.database import Sessions, connect, sessions
from store.errors import Conflict, QuotaExceeded
from store.jobs import get_job, request_cancel, request_pause, submit
from store.reconcile import Swept, sweep
from store.tables import Attempt, Job, Model

SPEC = read_spec({"dataset": "digits"})
HANDS = 10
ROUNDS = 5


@pytest.fixture
def hands(database_url: str) -> Iterator[list[Sessions]]:
    """Ten processes' worth of connections: each hand has an engine of its own."""
    engines: list[Engine] = [connect(database_url) for _ in range(HANDS)]
    yield [sessions(engine) for engine in engines]
    for engine in engines:
        engine.dispose()


def at_once(hands: Sequence[Sessions], deeds: Sequence[Callable[[Session], Any]]) -> list[Any]:
    """Do each deed in a transaction of its own, all begun at the same moment."""
    start = threading.Barrier(len(deeds))

    def act(hand: Sessions, deed: Callable[[Session], Any]) -> Any:
        with hand() as session:
            session.connection()
            session.rollback()  # connected, and in no transaction
            start.wait()
            try:
                answer = deed(session)
                session.commit()
            except (Conflict, QuotaExceeded) as refused:
                return refused
            return answer

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(act, hands, deeds))


def take(session: Session, job_id: str, worker: str = "w") -> Claim | None:
    return claim(session, job_id, worker=worker, lease_seconds=15, max_attempts=9)


def new_job(hand: Sessions) -> str:
    with hand.begin() as session:
        return submit(session, SPEC).id


def held(hand: Sessions) -> Claim:
    job_id = new_job(hand)
    with hand.begin() as session:
        taken = take(session, job_id)
    assert taken is not None
    return taken


def pause_and_hand_back(session: Session, mine: Claim) -> None:
    request_pause(session, mine.job_id)
    hand_back(session, mine)


def expire(hand: Sessions, job_id: str) -> None:
    with hand.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=clock(-0.01)))


def read(hand: Sessions, job_id: str) -> Job:
    with hand() as session:
        return get_job(session, job_id, owner=None)


def test_of_ten_claimers_one_wins(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        job_id = new_job(hands[0])
        answers = at_once(hands, [partial(take, job_id=job_id, worker=f"w{n}") for n in range(HANDS)])
        winners = [answer for answer in answers if isinstance(answer, Claim)]
        assert len(winners) == 1
        row = read(hands[0], job_id)
        assert (row.attempt, row.worker, row.losses) == (1, winners[0].worker, 0)


def test_of_ten_claimers_of_a_lost_job_one_wins(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        job_id = held(hands[0]).job_id
        expire(hands[0], job_id)
        answers = at_once(hands, [partial(take, job_id=job_id, worker=f"w{n}") for n in range(HANDS)])
        assert sum(isinstance(answer, Claim) for answer in answers) == 1
        row = read(hands[0], job_id)
        assert (row.attempt, row.losses) == (2, 1)
        with hands[0]() as session:
            assert session.scalars(select(Attempt.outcome).where(Attempt.job_id == job_id)).all() == ["lost", None]


def test_ten_sweepers_settle_each_lost_job_once(hands: list[Sessions]) -> None:
    lost = sorted(held(hands[0]).job_id for _ in range(12))
    for job_id in lost:
        expire(hands[0], job_id)
    answers = at_once(hands, [partial(sweep, max_attempts=3)] * HANDS)
    swept = [answer for answer in answers if isinstance(answer, Swept)]
    assert len(swept) == HANDS
    assert sorted(job_id for each in swept for job_id in each.requeued) == lost
    # A sweeper passes by the rows that another one holds, so some may be left for the next look.
    with hands[0].begin() as session:
        late = sweep(session, max_attempts=3).to_publish
    published = [job.id for each in swept for job in each.to_publish] + [job.id for job in late]
    assert sorted(published) == lost
    assert {read(hands[0], job_id).losses for job_id in lost} == {1}


def test_a_renewal_and_a_sweep_do_not_both_get_an_expired_job(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        mine = held(hands[0])
        expire(hands[0], mine.job_id)
        renewed, swept = at_once(hands, [partial(renew, claim=mine), partial(sweep, max_attempts=3)])
        assert isinstance(swept, Swept)
        requeued = mine.job_id in swept.requeued
        assert (renewed is not None) != requeued
        assert read(hands[0], mine.job_id).status == ("queued" if requeued else "running")


def test_cancelling_races_success_and_the_job_has_one_end(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        mine = held(hands[0])
        model, cancelled = at_once(
            hands,
            [
                partial(succeed, claim=mine, manifest={}, prefix="p", result={}),
                partial(request_cancel, job_id=mine.job_id),
            ],
        )
        row = read(hands[0], mine.job_id)
        with hands[0]() as session:
            models = session.scalar(select(func.count()).where(Model.job_id == mine.job_id))
        if isinstance(cancelled, Conflict):
            assert (row.status, models) == ("succeeded", 1)
        else:
            assert (row.status, models, model) == ("cancelled", 0, None)


def test_an_attempt_ends_in_one_way(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        mine = held(hands[0])
        deeds: list[Callable[[Session], Any]] = [
            partial(succeed, claim=mine, manifest={}, prefix="p", result={}),
            partial(fail, claim=mine, code="diverged", message="NaN"),
            partial(hand_back, claim=mine),
            partial(pause_and_hand_back, mine=mine),
        ]
        at_once(hands, deeds * 2)
        with hands[0]() as session:
            (outcome,) = session.scalars(select(Attempt.outcome).where(Attempt.job_id == mine.job_id)).all()
        status = read(hands[0], mine.job_id).status
        expected = {"succeeded": "succeeded", "failed": "failed", "queued": "handed_back"}
        assert outcome == expected.get(status, "paused") or (status, outcome) == ("paused", "handed_back")


def test_a_late_epoch_of_an_old_attempt_never_lands_in_the_new_ones(hands: list[Sessions]) -> None:
    for _ in range(ROUNDS):
        old = held(hands[0])
        expire(hands[0], old.job_id)
        kept, taken = at_once(
            hands,
            [
                partial(record_epoch, claim=old, metrics={"epoch": 7}, progress={"epoch": 7}),
                partial(take, job_id=old.job_id, worker="new"),
            ],
        )
        row = read(hands[0], old.job_id)
        if kept:  # it came first, and renewed the lease
            assert (taken, row.attempt, row.latest_metrics) == (None, 1, {"epoch": 7})
        else:
            assert isinstance(taken, Claim)
            assert (row.attempt, row.worker, row.latest_metrics) == (2, "new", None)


def test_ten_submissions_under_one_key_make_one_job(hands: list[Sessions]) -> None:
    for key in range(ROUNDS):
        answers = at_once(hands, [partial(submit, spec=SPEC, idempotency_key=str(key))] * HANDS)
        assert len({answer.id for answer in answers if isinstance(answer, Job)}) == 1


def test_ten_submissions_do_not_break_a_quota_of_four(hands: list[Sessions]) -> None:
    answers = at_once(hands, [partial(submit, spec=SPEC, owner="ann", max_queued_jobs=4)] * HANDS)
    assert sum(isinstance(answer, Job) for answer in answers) == 4
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 6


_CLAIMER = """
import sys
from store.attempts import claim
from store.database import connect, sessions
engine = connect(sys.argv[1])
sys.stdin.readline()
for job_id in sys.argv[2:]:
    with sessions(engine).begin() as session:
        if claim(session, job_id, worker="w", lease_seconds=15, max_attempts=3) is not None:
            print(job_id)
engine.dispose()
"""


@pytest.mark.slow
def test_of_four_processes_one_gets_each_job(engine: Engine, database_url: str) -> None:
    jobs = [new_job(sessions(engine)) for _ in range(20)]
    command = [sys.executable, "-W", "error", "-c", _CLAIMER, database_url, *jobs]
    claimers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    answers = [claimer.communicate(timeout=60) for claimer in claimers]
    assert [complaint for _, complaint in answers] == ["", "", "", ""]
    assert sorted(job_id for claimed, _ in answers for job_id in claimed.split()) == sorted(jobs)
