"""The store under any order of events, told from a model: one end, a fence that only rises, one model at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import update

from intff.spec import read_spec
from store.attempts import Claim, claim, fail, hand_back, record_checkpoint, record_epoch, renew, succeed
from store.clock import clock
from store.database import connect, sessions
from store.errors import Conflict
from store.jobs import get_job, request_cancel, request_pause, request_resume, submit
from store.reconcile import sweep
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt, Base, EpochMetricsRow, Job, Model

if TYPE_CHECKING:
    from tests.faults.conftest import Survived

pytestmark = pytest.mark.faults

SPEC = read_spec({"dataset": "digits"})
MAX_ATTEMPTS = 3
EXAMPLES = 40
STEPS = 40


class Seen:
    """What has been seen of a job; none of it may ever be taken back."""

    def __init__(self) -> None:
        self.end: tuple[JobStatus, int] | None = None
        self.attempt = 0
        self.losses = 0
        self.revision = 0
        self.cancel_accepted = False
        self.model: str | None = None
        self.metrics: dict[int, int] = {}


class Store(RuleBasedStateMachine):
    """Owners, workers and reconcilers, who do what they can in any order; claims are kept long after their time."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")
    database_url = ""
    events = 0

    def __init__(self) -> None:
        super().__init__()
        self.engine = connect(self.database_url)
        self.sessions = sessions(self.engine)
        with self.sessions.begin() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
        self.seen: dict[str, Seen] = {}
        self.workers = 0

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(target=jobs)
    def submit(self) -> str:
        with self.sessions.begin() as session:
            job = submit(session, SPEC).id
        self.seen[job] = Seen()
        return job

    @rule(target=claims, job=jobs)
    def claim(self, job: str) -> object:
        self.workers += 1
        before = self._job(job)
        expired = self._is_expired(job)
        with self.sessions.begin() as session:
            won = claim(session, job, worker=f"w{self.workers}", lease_seconds=3600, max_attempts=MAX_ATTEMPTS)
        free = before.status is JobStatus.QUEUED or (expired and before.losses + 1 < MAX_ATTEMPTS)
        wanted = not before.cancel_requested and not before.pause_requested
        assert (won is not None) == (free and wanted)
        return multiple() if won is None else won

    @rule(job=jobs)
    def lose(self, job: str) -> None:
        """The worker has been silent for longer than its lease."""
        with self.sessions.begin() as session:
            session.execute(
                update(Job).where(Job.id == job, Job.status == JobStatus.RUNNING).values(lease_expires_at=clock(-1))
            )

    @rule()
    def reap(self) -> None:
        lost = {job for job in self.seen if self._is_expired(job)}
        with self.sessions.begin() as session:
            swept = sweep(session, max_attempts=MAX_ATTEMPTS)
        assert {*swept.requeued, *swept.failed, *swept.cancelled, *swept.paused} == lost

    @rule(held=claims)
    def renew(self, held: Claim) -> None:
        current = self._is_current(held)
        with self.sessions.begin() as session:
            orders = renew(session, held, {"epoch": 1})
        assert (orders is not None) == current

    @rule(held=claims, epoch=st.integers(1, 4))
    def record_epoch(self, held: Claim, epoch: int) -> None:
        current = self._is_current(held)
        with self.sessions.begin() as session:
            orders = record_epoch(session, held, {"epoch": epoch, "loss": 1.0}, {"epoch": epoch})
        assert (orders is not None) == current
        if current:
            kept = self.seen[held.job_id].metrics
            self.seen[held.job_id].metrics = {e: a for e, a in kept.items() if e < epoch} | {epoch: held.attempt}

    @rule(held=claims, epoch=st.integers(1, 4))
    def record_checkpoint(self, held: Claim, epoch: int) -> None:
        current = self._is_current(held)
        prefix = f"jobs/{held.job_id}/attempt-{held.attempt}/checkpoint-{epoch}"
        with self.sessions.begin() as session:
            written = record_checkpoint(session, held, {"prefix": prefix, "epoch": epoch, "files": {}})
        assert written == current

    @rule(held=claims)
    def succeed(self, held: Claim) -> None:
        current = self._is_current(held)
        asked = self._job(held.job_id).cancel_requested
        prefix = f"models/{held.job_id}/attempt-{held.attempt}"
        with self.sessions.begin() as session:
            model = succeed(session, held, manifest={"files": {}}, prefix=prefix, result={"epochs": 4})
        assert (model is not None) == (current and not asked)
        if model is not None:
            self.seen[held.job_id].model = model.id

    @rule(held=claims)
    def fail(self, held: Claim) -> None:
        current = self._is_current(held)
        with self.sessions.begin() as session:
            assert fail(session, held, code="diverged", message="so it goes") == current

    @rule(held=claims)
    def hand_back(self, held: Claim) -> None:
        current = self._is_current(held)
        with self.sessions.begin() as session:
            assert (hand_back(session, held) is not None) == current

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        before = self._job(job)
        with self.sessions.begin() as session:
            try:
                request_cancel(session, job)
            except Conflict:
                assert before.status in {JobStatus.SUCCEEDED, JobStatus.FAILED}
            else:
                assert before.status not in {JobStatus.SUCCEEDED, JobStatus.FAILED}
                self.seen[job].cancel_accepted = True

    @rule(job=jobs, move=st.sampled_from([request_pause, request_resume]))
    def pause_or_resume(self, job: str, move: object) -> None:
        before = self._job(job)
        with self.sessions.begin() as session:
            try:
                move(session, job)  # type: ignore[operator]  # hypothesis does not tell what it samples
            except Conflict:
                assert before.status.is_terminal or before.cancel_requested
            else:
                assert not before.status.is_terminal

    @invariant()
    def all_is_well(self) -> None:
        type(self).events += 1
        with self.sessions() as session:
            jobs = session.query(Job).all()
            models = session.query(Model).all()
            metrics = session.query(EpochMetricsRow).all()
            attempts = session.query(Attempt).order_by(Attempt.attempt).all()
        assert {job.id for job in jobs} == set(self.seen)
        for now in jobs:
            seen = self.seen[now.id]
            _require_no_way_back(now, seen)
            # At most one model, and none without success.
            assert [model.id for model in models if model.job_id == now.id] == ([seen.model] if seen.model else [])
            assert now.model_id == seen.model
            assert (now.status is JobStatus.SUCCEEDED) == (seen.model is not None)
            # No metric of an attempt from after its time.
            assert {row.epoch: row.attempt for row in metrics if row.job_id == now.id} == seen.metrics
            _require_attempts(now, [row for row in attempts if row.job_id == now.id])

    def _job(self, job: str) -> Job:
        with self.sessions() as session:
            return get_job(session, job, owner=None)

    def _is_current(self, held: Claim) -> bool:
        now = self._job(held.job_id)
        return now.status is JobStatus.RUNNING and now.attempt == held.attempt

    def _is_expired(self, job: str) -> bool:
        with self.sessions() as session:
            expired = session.query(Job.id).filter(Job.id == job, Job.lease_expires_at < clock()).one_or_none()
        return expired is not None


def _require_no_way_back(now: Job, seen: Seen) -> None:
    assert now.revision >= seen.revision
    assert now.attempt >= seen.attempt, "the fence only rises"
    assert now.losses >= seen.losses
    assert now.losses <= min(now.attempt, MAX_ATTEMPTS)
    if seen.end is not None:
        assert (now.status, now.revision) == seen.end, "an end is an end"
    if now.status.is_terminal:
        seen.end = (now.status, now.revision)
        assert now.finished_at is not None
        assert not seen.cancel_accepted or now.status is JobStatus.CANCELLED
    else:
        assert now.finished_at is None
    assert (now.lease_expires_at is not None) == (now.status is JobStatus.RUNNING)
    assert (now.worker is not None) == (now.status is JobStatus.RUNNING)
    seen.attempt, seen.losses, seen.revision = now.attempt, now.losses, now.revision


def _require_attempts(now: Job, rows: list[Attempt]) -> None:
    """Each ended once, but for the one under way."""
    assert [row.attempt for row in rows] == list(range(1, now.attempt + 1))
    under_way = [row.attempt for row in rows if row.outcome is None]
    assert under_way == ([now.attempt] if now.status is JobStatus.RUNNING else [])
    assert sum(row.outcome is AttemptOutcome.LOST for row in rows) == now.losses


def test_any_order_of_events(database_url: str, survived: Survived) -> None:
    class Machine(Store):
        pass

    Machine.database_url = database_url
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    kind = database_url.partition(":")[0].partition("+")[0]
    survived(
        f"any order of events, on {kind}", times=Machine.events, figure=f"{EXAMPLES} orders of up to {STEPS} events"
    )
