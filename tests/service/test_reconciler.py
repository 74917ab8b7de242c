"""The reconciler: lost jobs come back, waiting ones are published, and outages are lived through."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery

from service.metrics import Metrics
from service.publishing import Publisher
from service.reconciler import Reconciler
from store import queries
from store.database import Sessions
from store.queue import celery_app
from store.settings import Settings
from store.statuses import JobStatus


@pytest.fixture
def broker(broker_url: str) -> Any:
    app = celery_app(broker_url)
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.client.flushdb()  # other tests share the embedded one
    yield app
    app.close()


def messages(broker: Celery) -> int:
    with broker.connection_for_write() as connection:
        channel: Any = connection.default_channel
        return sum(channel.client.llen(key) for key in channel.client.keys("cpu*"))


def claim_and_fall_silent(db: Sessions, job: Any) -> None:
    with db.begin() as session:
        assert queries.claim(session, job.id, worker="w", lease_seconds=0.01, max_attempts=3)


def status_of(db: Sessions, job: Any) -> JobStatus:
    with db() as session:
        return queries.get_job(session, job.id, owner=None).status


def sweep_until(reconciler: Reconciler, happened: Callable[[], bool], seconds: float = 30.0) -> None:
    """Sweep until it has: a sweep that this machine held up counts as a standstill and spares the job once more."""
    give_up = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < give_up, "the sweeps never did it"
        time.sleep(0.1)
        reconciler.sweep_once()


def test_a_lost_job_is_queued_and_published_again(
    settings: Settings, db: Sessions, broker: Celery, make_job: Any
) -> None:
    job = make_job()
    with db.begin() as session:
        assert queries.claim(session, job.id, worker="w", lease_seconds=0.01, max_attempts=3)
    time.sleep(0.05)
    metrics = Metrics()
    assert Reconciler(db, Publisher(broker, db), settings, metrics).sweep_once() is True
    with db() as session:
        assert queries.get_job(session, job.id, owner=None).status == JobStatus.QUEUED
    assert messages(broker) == 1
    page = metrics.page().decode()
    assert 'intff_reconciled_jobs_total{action="requeued"} 1.0' in page
    assert 'intff_reconciled_jobs_total{action="published"} 1.0' in page


def test_what_the_broker_did_not_take_is_published_by_the_next_sweep(
    settings: Settings, db: Sessions, broker: Celery, make_job: Any
) -> None:
    make_job(republish_seconds=0.0)
    make_job(republish_seconds=0.0)
    time.sleep(0.01)
    away = celery_app("redis://127.0.0.1:1")
    assert Reconciler(db, Publisher(away, db), settings, Metrics()).sweep_once() is False
    away.close()
    assert Reconciler(db, Publisher(broker, db), settings, Metrics()).sweep_once() is True
    assert messages(broker) == 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_is_lived_through(settings: Settings, db: Sessions, broker: Celery, make_job: Any) -> None:
    make_job(republish_seconds=0.0)

    class Flaky:
        """Sessions of a database that is away for the first three sweeps."""

        tries = 0

        def begin(self) -> Any:
            self.tries += 1
            if self.tries <= 3:
                msg = "the database is away"
                raise OSError(msg)
            return db.begin()

    flaky: Any = Flaky()
    quick = settings.model_copy(update={"sweep_seconds": 0.01})
    reconciler = Reconciler(flaky, Publisher(broker, flaky), quick, Metrics())
    reconciler.start()
    deadline = time.monotonic() + 10
    while not messages(broker) and time.monotonic() < deadline:
        time.sleep(0.01)
    reconciler.stop()
    assert messages(broker) == 1


def test_after_an_outage_the_living_may_renew_their_leases_before_they_are_called_silent(
    settings: Settings, db: Sessions, broker: Celery, make_job: Any
) -> None:
    silent, living = make_job(), make_job()
    quick = settings.model_copy(update={"lease_seconds": 0.5})
    reconciler = Reconciler(db, Publisher(broker, db), quick, Metrics())

    claim_and_fall_silent(db, silent)
    time.sleep(0.05)
    reconciler.sweep_once()
    assert status_of(db, silent) is JobStatus.QUEUED

    claim_and_fall_silent(db, living)
    reconciler._was_away = True  # what a sweep that failed leaves
    time.sleep(0.05)
    reconciler.sweep_once()
    assert status_of(db, living) is JobStatus.RUNNING
    sweep_until(reconciler, lambda: status_of(db, living) is JobStatus.QUEUED)  # it has had its time


@pytest.mark.parametrize("happened", ["its first look fell into an outage", "an hour passed between two looks"])
def test_what_it_has_not_seen_is_not_held_against_the_living(
    happened: str, settings: Settings, db: Sessions, broker: Celery, make_job: Any
) -> None:
    job = make_job()
    quick = settings.model_copy(update={"lease_seconds": 0.5, "sweep_seconds": 0.1})
    reconciler = Reconciler(db, Publisher(broker, db), quick, Metrics())
    if happened.startswith("an hour"):
        reconciler.sweep_once()
        assert reconciler._looked is not None
        reconciler._looked -= timedelta(hours=1)
    else:
        reconciler._was_away = True  # what a sweep that failed leaves
    claim_and_fall_silent(db, job)
    time.sleep(0.05)
    reconciler.sweep_once()
    assert status_of(db, job) is JobStatus.RUNNING
    sweep_until(reconciler, lambda: status_of(db, job) is JobStatus.QUEUED)  # it has had its time


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_is_slow_all_the_time_does_not_keep_the_silent(
    settings: Settings, db: Sessions, broker: Celery, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.reconciler._STALLED_SECONDS", 0.0)  # each look is as slow as a stalled one
    quick = settings.model_copy(update={"lease_seconds": 0.1, "sweep_seconds": 0.05})
    reconciler = Reconciler(db, Publisher(broker, db), quick, Metrics())
    silent = make_job()
    claim_and_fall_silent(db, silent)
    time.sleep(0.05)
    reconciler.sweep_once()
    assert status_of(db, silent) is JobStatus.RUNNING
    sweep_until(reconciler, lambda: status_of(db, silent) is JobStatus.QUEUED)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_its_own_longer_pause_is_no_standstill(
    settings: Settings, db: Sessions, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is away it looks more rarely."""
    away = celery_app("redis://127.0.0.1:1")
    quick = settings.model_copy(update={"lease_seconds": 0.2, "sweep_seconds": 0.1})
    reconciler = Reconciler(db, Publisher(away, db), quick, Metrics())
    silent = make_job()
    make_job(republish_seconds=0.0)  # which the broker does not take, at any look
    monkeypatch.setattr("service.reconciler._SLOW_LEASES", 10**6)
    reconciler._failures = 3  # so that it pauses for 1.6 s, and longer each time
    reconciler.start()
    try:
        until = time.monotonic() + 20
        while reconciler._looked is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        claim_and_fall_silent(db, silent)
        while status_of(db, silent) is not JobStatus.QUEUED:
            assert time.monotonic() < until, "the silent worker's job was never taken from it"
            time.sleep(0.05)
    finally:
        reconciler.stop()
        away.close()
