"""However many believe that a job is theirs, one attempt's writes survive and the others' change nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from intff.spec import read_spec
from store.attempts import Claim, claim, record_checkpoint, record_epoch, renew, succeed
from store.jobs import submit
from store.queue import celery_app, publish
from store.reconcile import sweep
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt, Job, Model
from tests.faults.installation import LEASE_SECONDS, spec

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 600
RACERS = 10
RACES = 20

# A worker's claim, without the training: ten imports of torch would race for the processor instead.
_RACER = """
import sys
from store.attempts import claim
from store.database import connect, sessions

url, name, *jobs = sys.argv[1:]
make = sessions(connect(url))
make().connection().close()
print("ready", flush=True)
input()
for job in jobs:
    with make.begin() as session:
        won = claim(session, job, worker=name, lease_seconds=60, max_attempts=3)
    if won is not None:
        print(job, won.attempt, flush=True)
"""


def test_ten_processes_racing_for_each_of_twenty_jobs(installation: Installation, survived: Survived) -> None:
    """The start: a lock on the job's row, which is let go once all ten stand before it."""
    with installation.sessions.begin() as session:
        jobs = [submit(session, read_spec(spec(1))).id for _ in range(RACES)]
    command = [sys.executable, "-c", _RACER, installation.environment["INTFF_DATABASE_URL"]]
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen([*command, f"racer-{number}", *jobs], stdin=PIPE, stdout=PIPE, text=True)
            )
            for number in range(RACERS)
        ]
        for racer in racers:
            stack.callback(racer.kill)
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        held = hold(installation, jobs[0])
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for job, next_one in zip(jobs, [*jobs[1:], None], strict=True):
            installation.wait(lambda: standing(installation) == RACERS, "all ten stand before the same row")
            start = hold(installation, next_one)
            held.close()
            held = start
            installation.wait(partial(is_taken, installation, job), "one has it")
        held.close()
        said = [racer.communicate(timeout=60)[0].splitlines() for racer in racers]

    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(line for lines in said for line in lines) == sorted(f"{job} 1" for job in jobs)
    for job in jobs:
        assert installation.outcomes(job) == [None]  # one attempt, under way
    winners = sum(bool(lines) for lines in said)
    survived("ten processes racing for a job", times=RACES, figure=f"{winners} different ones won, each job once")


def hold(installation: Installation, job: str | None) -> Session:
    """Lock a job's row until the session is closed."""
    session = installation.sessions()
    session.execute(select(Job.id).where(Job.id == job).with_for_update())
    return session


def standing(installation: Installation) -> int:
    """How many transactions wait for a lock."""
    waiting = "datname = current_database() AND wait_event_type = 'Lock'"
    with installation.sessions() as session:
        return int(session.execute(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")).scalar_one())


def is_taken(installation: Installation, job: str) -> bool:
    return installation.job(job).status is JobStatus.RUNNING


def test_the_same_message_delivered_again_and_again(installation: Installation, survived: Survived) -> None:
    installation.start(workers=2)
    job = installation.submit(EPOCHS)
    broker = celery_app(installation.environment["INTFF_BROKER_URL"])
    for _ in range(10):
        publish(broker, installation.job(job))
    installation.wait_for(job, lambda now: now.latest_metrics)
    for _ in range(10):
        publish(broker, installation.job(job))
        time.sleep(0.1)
    installation.wait_until_succeeded(job)
    publish(broker, installation.job(job))
    broker.close()
    installation.wait(lambda: installation.waiting_messages() == 0, "every copy is taken")
    time.sleep(1)

    installation.require_whole(job, EPOCHS)
    assert installation.outcomes(job) == [AttemptOutcome.SUCCEEDED]
    survived("the same message delivered again", times=21)


def test_a_worker_frozen_past_its_lease_and_thawed(
    installation: Installation, weights_of: References, survived: Survived
) -> None:
    installation.start(workers=2)
    job = installation.submit(EPOCHS)
    began = installation.wait_for(job, lambda now: now.checkpoint)
    assert began.worker is not None
    holder = next(each for each in installation.workers if began.worker.startswith(each.name))
    family = holder.family

    for each in family:
        each.send_signal(signal.SIGSTOP)
    frozen = time.monotonic()
    installation.wait_for(job, lambda now: now.attempt == 2)
    took = time.monotonic() - frozen
    installation.wait_for(job, lambda now: now.status is JobStatus.RUNNING and len(installation.epochs(job)) > 0)
    for each in family:
        each.send_signal(signal.SIGCONT)
    installation.wait_until_succeeded(job)

    installation.wait(lambda: "claim_lost" in holder.log.read_text(), "the thawed attempt has noticed")
    assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    installation.wait_until_tidy()
    installation.wait_until_succeeded(installation.submit(1))  # and the thawed worker has not choked on it
    assert took > LEASE_SECONDS / 2
    survived("worker frozen past its lease, and thawed", figure=f"another one went on after {took:.1f} s")


def test_nothing_that_a_lost_attempt_writes_is_kept(installation: Installation, survived: Survived) -> None:
    """Every write there is, by a claim that was swept away and taken again."""
    with installation.sessions.begin() as session:
        job = submit(session, read_spec(spec(5))).id
    lost = take(installation, job, "frozen", 0.05)
    time.sleep(0.2)
    with installation.sessions.begin() as session:
        assert sweep(session, max_attempts=3).requeued == [job]
    current = take(installation, job, "awake", 60)
    before = installation.job(job)

    writes: list[Callable[[Session], object]] = [
        lambda session: renew(session, lost, {"epoch": 9}),
        lambda session: record_epoch(session, lost, {"epoch": 1, "loss": 9.0}, {"epoch": 9}),
        lambda session: record_checkpoint(session, lost, {"prefix": "lost", "epoch": 9, "files": {}}),
        lambda session: succeed(session, lost, manifest={}, prefix="lost", result={}),
    ]
    for write in writes:
        with installation.sessions.begin() as session:
            assert not write(session)

    after = installation.job(job)
    assert {column.key: getattr(after, column.key) for column in after.__mapper__.column_attrs} == {
        column.key: getattr(before, column.key) for column in before.__mapper__.column_attrs
    }
    with installation.sessions.begin() as session:
        assert session.query(Model).count() == 0
        assert session.query(Attempt).count() == 2
        assert succeed(session, current, manifest={"files": {}}, prefix="current", result={}) is not None
    survived("writes of an attempt that has lost its job", times=len(writes))


def take(installation: Installation, job: str, worker: str, lease_seconds: float) -> Claim:
    with installation.sessions.begin() as session:
        won = claim(session, job, worker=worker, lease_seconds=lease_seconds, max_attempts=3)
    assert won is not None
    return won
