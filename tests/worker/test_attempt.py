"""One attempt in this process, against a real database that is locked, a damaged checkpoint, a lost claim."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from intff import trainer
from intff.spec import read_spec
from store.artifacts import Artifacts
from store.attempts import Claim, claim, fail, renew
from store.database import Sessions, connect, sessions, write_json
from store.jobs import get_job, list_metrics, request_cancel, request_pause, submit
from store.leftovers import Ended, note_removed
from store.reconcile import sweep
from store.statuses import JobStatus
from store.tables import NO_OWNER, EpochMetricsRow, Job, Model
from worker import attempt, checkpoints, lease
from worker.attempt import Attempt
from worker.lease import Halt, Halted, Lease
from worker.shutdown import StopRequest

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Bench:
    """A job, and attempts at it that run in a thread."""

    def __init__(self, engine: Engine, impatient: Engine, folder: Path) -> None:
        self.sessions: Sessions = sessions(engine)
        self.impatient = sessions(impatient)
        self.folder = folder
        self.artifacts = Artifacts(str(folder / "artifacts"))
        self.published: list[str] = []

    def submit(self, epochs: int) -> Job:
        training = {"epochs": epochs, "device": "cpu", "batch_size": 64}  # some ten milliseconds an epoch
        spec = {"dataset": "digits", "architecture": "64,(16)", "training": training}
        with self.sessions.begin() as session:
            return submit(session, read_spec(spec), owner=NO_OWNER)

    def claim(self, job: Job, lease_seconds: float = 60) -> Claim:
        with self.sessions.begin() as session:
            won = claim(session, job.id, worker="test", lease_seconds=lease_seconds, max_attempts=9)
        assert won is not None
        return won

    def start(self, won: Claim, stop: StopRequest) -> threading.Thread:
        thread = threading.Thread(target=self.run, args=(won, stop))
        thread.start()
        return thread

    def run(self, won: Claim, stop: StopRequest | None = None) -> None:
        scratch = self.folder / f"scratch-{won.attempt}"
        scratch.mkdir()
        with Lease(self.impatient, won, stop or StopRequest(), interval=0.05) as lease:
            Attempt(
                won,
                lease,
                artifacts=self.artifacts,
                scratch=scratch,
                data_dir=None,
                publish=lambda job: self.published.append(job.id),
            ).run()

    def job(self, job: Job) -> Job:
        with self.sessions() as session:
            return get_job(session, job.id, owner=NO_OWNER)

    def epochs(self, job: Job) -> list[int]:
        with self.sessions() as session:
            return [metrics["epoch"] for metrics in list_metrics(session, job.id, owner=NO_OWNER)]

    def wait_for(self, job: Job, happened: Callable[[Job], Any]) -> Job:
        deadline = time.monotonic() + 60
        while not happened(now := self.job(job)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return now

    @contextmanager
    def away(self) -> Iterator[None]:
        """The database takes no writes: another connection holds its only place for a writer."""
        with self.sessions() as session:
            session.execute(text("SELECT 1"))
            yield
            session.rollback()


@pytest.fixture
def bench(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    engine = connect(database_url)
    # The attempt's own gives up waiting for the writer's place at once, and so finds the database away.
    impatient = create_engine(database_url, connect_args={"timeout": 0.05}, json_serializer=write_json)
    event.listen(impatient, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(impatient, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    monkeypatch.setattr(checkpoints, "SHORTEST_PAUSE", 0.2)
    monkeypatch.setattr(checkpoints, "COST_SHARE", 1.0)
    yield Bench(engine, impatient, tmp_path)
    impatient.dispose()
    engine.dispose()


def started_epochs(bench: Bench, job: Job, attempt: int) -> list[int]:
    with bench.sessions() as session:
        rows = session.query(EpochMetricsRow).filter_by(job_id=job.id, attempt=attempt)
        return sorted(row.epoch for row in rows)


def damage(bench: Bench, checkpoint: dict[str, Any] | None) -> None:
    assert checkpoint is not None
    path = bench.folder / "artifacts" / checkpoint["prefix"] / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def stop_at_second_checkpoint(bench: Bench, job: Job) -> Job:
    stop = StopRequest()
    running = bench.start(bench.claim(job), stop)
    bench.wait_for(job, lambda now: now.previous_checkpoint)
    stop.ask()
    running.join()
    return bench.job(job)


@SQLITE
def test_training_goes_on_while_the_database_is_away_and_the_reports_arrive_in_order(bench: Bench) -> None:
    job = bench.submit(epochs=30)
    won = bench.claim(job)
    running = bench.start(won, StopRequest())
    bench.wait_for(job, lambda now: now.latest_metrics)

    with bench.away():
        deadline = time.monotonic() + 60
        model = bench.folder / "artifacts" / "models" / job.id / "attempt-1"
        while not model.exists():  # trained to the end, exported and stored
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert running.is_alive()
    running.join()

    assert bench.job(job).status is JobStatus.SUCCEEDED
    assert bench.epochs(job) == list(range(1, 31))


@SQLITE
def test_an_attempt_that_lost_its_claim_writes_nothing_more(bench: Bench) -> None:
    job = bench.submit(epochs=9000)
    running = bench.start(bench.claim(job), StopRequest())
    bench.wait_for(job, lambda now: now.latest_metrics)

    with bench.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET lease_expires_at = '2001-01-01 00:00:00.000000'"))
        sweep(session, max_attempts=3)
    running.join(5)
    assert not running.is_alive()
    queued = bench.job(job)
    time.sleep(0.3)

    assert queued.status is JobStatus.QUEUED
    assert bench.job(job).revision == queued.revision
    assert bench.published == []


@SQLITE
def test_the_files_of_an_attempt_that_lost_its_job_and_then_fails_are_looked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job has ended, and was tidied up, before the error is what it meets first."""
    job = bench.submit(epochs=1)
    won = bench.claim(job, lease_seconds=-1)
    second = bench.claim(job)

    def late(*_: object, **__: object) -> None:
        with bench.sessions.begin() as session:
            assert fail(session, second, code="diverged", message="")
            note_removed(session, Ended(job.id, None))
        message = "a folder went away"
        raise OSError(message)

    monkeypatch.setattr("worker.attempt.Trainer", late)
    bench.run(won)

    assert bench.job(job).has_files  # housekeeping will look again


@SQLITE
def test_a_job_handed_back_is_published_and_goes_on_from_its_newest_checkpoint(bench: Bench) -> None:
    job = bench.submit(epochs=300)
    stopped = stop_at_second_checkpoint(bench, job)
    assert stopped.status is JobStatus.QUEUED
    assert bench.published == [job.id]
    assert stopped.checkpoint is not None

    bench.run(bench.claim(job))

    assert bench.job(job).status is JobStatus.SUCCEEDED
    assert started_epochs(bench, job, attempt=2)[0] == stopped.checkpoint["epoch"] + 1
    assert bench.epochs(job) == list(range(1, 301))


@SQLITE
def test_an_order_within_a_short_epoch_loses_no_finished_epoch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_SECONDS", 0.0)  # orders are looked for after every batch
    monkeypatch.setattr(checkpoints, "SHORTEST_PAUSE", 3600.0)  # no checkpoint is due
    job = bench.submit(epochs=9000)
    stop = StopRequest()
    running = bench.start(bench.claim(job), stop)
    bench.wait_for(job, lambda now: now.latest_metrics)
    stop.ask()
    running.join()

    stopped = bench.job(job)
    assert stopped.status is JobStatus.QUEUED
    assert stopped.checkpoint is not None
    assert stopped.checkpoint["epoch"] == bench.epochs(job)[-1]


@SQLITE
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(bench: Bench) -> None:
    job = bench.submit(epochs=300)
    stopped = stop_at_second_checkpoint(bench, job)
    damage(bench, stopped.checkpoint)
    assert stopped.previous_checkpoint is not None

    bench.run(bench.claim(job))

    assert started_epochs(bench, job, attempt=2)[0] == stopped.previous_checkpoint["epoch"] + 1


@SQLITE
def test_without_a_whole_checkpoint_the_training_begins_anew(bench: Bench) -> None:
    job = bench.submit(epochs=300)
    stopped = stop_at_second_checkpoint(bench, job)
    damage(bench, stopped.checkpoint)
    damage(bench, stopped.previous_checkpoint)

    bench.run(bench.claim(job))

    assert started_epochs(bench, job, attempt=2) == list(range(1, 301))


@SQLITE
def test_old_checkpoints_are_deleted_and_the_end_leaves_only_the_model(bench: Bench) -> None:
    job = bench.submit(epochs=300)
    stop_at_second_checkpoint(bench, job)
    running = bench.start(bench.claim(job), StopRequest())
    most = 0
    while running.is_alive():
        with suppress(FileNotFoundError):  # a folder that went while it was looked at
            most = max(most, len(list((bench.folder / "artifacts" / "jobs").glob("*/*/checkpoint-*"))))
        time.sleep(0.01)

    assert most <= 4  # the newest two, one that the database does not know yet, one about to be deleted
    assert not (bench.folder / "artifacts" / "jobs" / job.id).exists()
    with bench.sessions() as session:
        assert [model.prefix for model in session.query(Model)] == [f"models/{job.id}/attempt-2"]


@SQLITE
def test_a_report_that_cannot_be_written_fails_the_job_and_does_not_silence_the_attempt(bench: Bench) -> None:
    """Without its last word the job would wait for its lease, be tried again and end as `worker_lost`."""
    job = bench.submit(epochs=9000)
    won = bench.claim(job)
    scratch = bench.folder / "scratch"
    scratch.mkdir()

    def unwritable(session: Session) -> bool:
        session.execute(text("UPDATE jobs SET spec = NULL"))
        return True

    with Lease(sessions(bench.sessions.kw["bind"]), won, StopRequest(), interval=0.05) as lease:
        lease.report(unwritable)
        while lease.is_alive():  # it has met the report
            time.sleep(0.01)
        options: dict[str, Any] = {"artifacts": bench.artifacts, "scratch": scratch, "data_dir": None}
        Attempt(won, lease, publish=lambda _: None, **options).run()

    failed = bench.job(job)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "internal_error")
    assert failed.error_message is not None
    assert "IntegrityError" in failed.error_message


@SQLITE
@pytest.mark.parametrize("order", [Halt.CANCEL, Halt.LOST, Halt.PAUSE])
def test_a_process_that_hangs_is_ended_once_nothing_it_does_is_wanted(bench: Bench, order: Halt) -> None:
    """For as long as a lease it may still obey; a paused attempt is left alone, for it may be saving its work."""
    job = bench.submit(epochs=1)
    won = bench.claim(job, lease_seconds=0.5)
    move = {Halt.CANCEL: request_cancel, Halt.PAUSE: request_pause}.get(order)
    ended: list[float] = []
    with Lease(bench.sessions, won, StopRequest(), 0.05, end_process=lambda: ended.append(time.monotonic())) as lease:
        ordered = time.monotonic()
        with bench.sessions.begin() as session:
            if move is None:
                session.execute(text("UPDATE jobs SET attempt = attempt + 1"))
            else:
                move(session, job.id, owner=NO_OWNER)
        time.sleep(1.5)
        assert lease.halt is order
    if order is Halt.PAUSE:
        assert ended == []
    else:
        assert 0.5 < ended[0] - ordered < 1.0


@SQLITE
def test_a_process_that_obeyed_is_not_ended_while_it_clears_up(bench: Bench) -> None:
    won = bench.claim(bench.submit(epochs=1), lease_seconds=0.2)
    ended: list[bool] = []
    with Lease(bench.sessions, won, StopRequest(), 0.05, end_process=lambda: ended.append(True)) as lease:
        with bench.sessions.begin() as session:
            session.execute(text("UPDATE jobs SET attempt = attempt + 1"))
        while lease.halt is None:
            time.sleep(0.01)
        with pytest.raises(Halted):
            lease.obey()
        time.sleep(0.6)
    assert ended == []


@SQLITE
def test_a_run_that_stops_early_ends_with_all_of_its_progress(bench: Bench) -> None:
    """Its last epoch's report, which says three of nine, is written after the end is known."""
    job = bench.submit(epochs=9)
    won = bench.claim(job)
    told = Lease(bench.sessions, won, StopRequest())
    told.report_epoch({"epoch": 3}, {"epoch": 3, "fraction": 1 / 3})
    told.progress = {"epoch": 3, "fraction": 1.0}
    assert told.settle(lambda session: renew(session, won)) is not None
    assert bench.job(job).progress == {"epoch": 3, "fraction": 1.0}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_long_delivery_does_not_cost_the_lease(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has waited for a database is more than can be written within a lease."""
    monkeypatch.setattr(lease, "AT_ONCE", 2)
    engine = connect(database_url)
    bench = Bench(engine, engine, tmp_path)
    won = bench.claim(bench.submit(epochs=1), lease_seconds=1.0)
    swept = []

    def write_slowly(_: Session) -> bool:
        time.sleep(0.2)
        return True

    def look() -> None:
        with bench.sessions.begin() as session:
            swept.append(sweep(session, max_attempts=3).requeued)

    waiting = Lease(bench.sessions, won, StopRequest())
    for _ in range(10):
        waiting.report(write_slowly, then=look)
    assert waiting.settle(lambda session: renew(session, won)) is not None
    assert swept == [[]] * 10
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_table_of_reports_that_is_locked_does_not_cost_the_lease(database_url: str, tmp_path: Path) -> None:
    """As while its owner makes an index on it."""
    engine, impatient = connect(database_url), connect(database_url)

    @event.listens_for(impatient, "connect")
    def wait_briefly(connection: Any, _: object) -> None:
        connection.execute("SET lock_timeout = '200ms'")
        connection.commit()

    bench = Bench(engine, impatient, tmp_path)
    job = bench.submit(epochs=1)
    won = bench.claim(job, lease_seconds=1.0)
    swept = []
    with engine.connect() as owner, Lease(bench.impatient, won, StopRequest(), interval=0.05) as lease:
        owner.execute(text("LOCK TABLE epoch_metrics IN SHARE MODE"))
        lease.report_epoch({"epoch": 1}, {"epoch": 1})
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with bench.sessions.begin() as session:
                swept += sweep(session, max_attempts=3).requeued
            time.sleep(0.05)
        assert bench.epochs(job) == []
        owner.rollback()
        bench.wait_for(job, lambda _: bench.epochs(job) == [1])
    assert swept == []
    impatient.dispose()
    engine.dispose()


@SQLITE
def test_a_checkpoint_that_cannot_be_had_is_passed_over_where_the_one_before_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on a bad sector stays unreadable however long the job waits for it."""
    monkeypatch.setattr(checkpoints, "FETCH_PAUSES", (0.01,))
    job = bench.submit(epochs=300)
    stopped = stop_at_second_checkpoint(bench, job)
    assert stopped.checkpoint is not None
    assert stopped.previous_checkpoint is not None
    fetch, newest = bench.artifacts.fetch_folder, stopped.checkpoint["prefix"]

    def fetch_what_can_be_read(prefix: str, *rest: Any) -> Any:
        if prefix == newest:
            raise OSError(errno.EIO, "Input/output error")
        return fetch(prefix, *rest)

    monkeypatch.setattr(bench.artifacts, "fetch_folder", fetch_what_can_be_read)
    bench.run(bench.claim(job))
    assert started_epochs(bench, job, attempt=2)[0] == stopped.previous_checkpoint["epoch"] + 1
    assert bench.job(job).status is JobStatus.SUCCEEDED


@SQLITE
def test_a_checkpoints_threads_are_nothing_to_the_next_job(bench: Bench) -> None:
    job = bench.submit(epochs=300)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        stop_at_second_checkpoint(bench, job)
        torch.set_num_threads(1)
        bench.run(bench.claim(job))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


@SQLITE
def test_a_store_that_is_away_for_a_moment_costs_no_epoch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FETCH_PAUSES", (0.2,) * 50)
    job = bench.submit(epochs=400)
    before = stop_at_second_checkpoint(bench, job)
    assert before.checkpoint is not None
    stored, away = bench.folder / "artifacts", bench.folder / "away"
    stored.rename(away)
    stop = StopRequest()
    running = bench.start(won := bench.claim(job), stop)
    time.sleep(0.5)
    away.rename(stored)
    bench.wait_for(job, lambda now: now.attempt == won.attempt and started_epochs(bench, job, won.attempt))
    stop.ask()
    running.join()
    assert started_epochs(bench, job, won.attempt)[0] == before.checkpoint["epoch"] + 1


@SQLITE
def test_a_store_that_stays_away_sends_the_job_back_into_the_queue(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FETCH_PAUSES", (0.01,))
    job = bench.submit(epochs=400)
    before = stop_at_second_checkpoint(bench, job)
    (bench.folder / "artifacts").rename(bench.folder / "away")
    bench.published.clear()
    bench.run(bench.claim(job))
    after = bench.job(job)
    assert (after.status, after.checkpoint) == (JobStatus.QUEUED, before.checkpoint)
    assert bench.published == [job.id]


@SQLITE
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_trained_model_waits_for_a_store_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, comes_back: bool
) -> None:
    monkeypatch.setattr(attempt, "PUT_PAUSES", (0.2,) * (50 if comes_back else 1))
    in_the_way = bench.folder / "artifacts"
    in_the_way.write_text("no folder")
    job = bench.submit(epochs=1)
    running = bench.start(bench.claim(job), StopRequest())
    bench.wait_for(job, lambda now: now.latest_metrics)
    time.sleep(0.5)
    if comes_back:
        in_the_way.unlink()
    running.join()
    ended = bench.job(job)
    if comes_back:
        assert ended.status is JobStatus.SUCCEEDED
    else:
        assert (ended.status, ended.error_code) == (JobStatus.FAILED, "artifacts_unavailable")
