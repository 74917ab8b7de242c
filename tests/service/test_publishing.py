"""Publishing: a broker that hangs keeps nobody waiting, and one that is well is given each job at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from service import publishing
from service.app import create_app
from service.metrics import Metrics
from service.publishing import Publisher
from service.reconciler import Reconciler
from store import queries
from store.database import Sessions
from store.queue import celery_app
from store.settings import Settings
from store.tables import Job
from tests.faults.servers import PrivateValkey
from tests.service.test_events import wait_until
from tests.service.test_jobs import SHORT
from tests.service.test_rate_limit import Clock
from tests.service.test_reconciler import messages
from tests.store.test_queue import received

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The publisher's clock, which stands still."""
    clock = Clock()
    monkeypatch.setattr(publishing, "monotonic", clock)
    return clock


@pytest.fixture
def broker(valkey: PrivateValkey) -> Iterator[Any]:
    app = celery_app(valkey.url)
    yield app
    app.close()


def test_a_broker_that_hangs_keeps_no_other_request_waiting(
    *, settings: Settings, serve: Any, valkey: PrivateValkey, db: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More jobs than the 40 threads that all routes share, sent before the first one is given up."""
    monkeypatch.setattr("store.queue._ANSWER_SECONDS", 4.0)
    valkey.freeze()
    with serve(create_app(settings.model_copy(update={"broker_url": valkey.url}))) as client:
        waits = [client.post("/v1/jobs", json=SHORT).elapsed.total_seconds() for _ in range(60)]
        waits.append(client.get("/v1/jobs").elapsed.total_seconds())
        assert max(waits) < 1.5
        wait_until(lambda: unpublished(db) == 60)  # all of them are left to the next sweep


def unpublished(db: Sessions) -> int:
    with db() as session:
        return session.query(Job).filter_by(publishes=0).count()


@pytest.mark.usefixtures("clock")
def test_after_a_failure_jobs_wait_for_the_next_sweep_and_once_that_has_published_for_none(
    *, settings: Settings, db: Sessions, broker: Any, valkey: PrivateValkey, make_job: Callable[[], Any]
) -> None:
    publisher = Publisher(broker, db)
    valkey.stop()
    anyio.run(publisher.publish_job, make_job())
    valkey.start()
    anyio.run(publisher.publish_job, make_job())
    assert messages(broker) == 0
    assert Reconciler(db, publisher, settings, Metrics()).sweep_once() is True
    assert messages(broker) == 2
    anyio.run(publisher.publish_job, make_job())
    assert messages(broker) == 3


def test_three_seconds_after_a_failure_a_job_is_tried_again_at_once(
    db: Sessions, broker: Any, valkey: PrivateValkey, clock: Clock, make_job: Callable[[], Any]
) -> None:
    publisher = Publisher(broker, db)
    valkey.stop()
    anyio.run(publisher.publish_job, make_job())
    valkey.start()
    clock.now += 2.9
    anyio.run(publisher.publish_job, make_job())
    assert messages(broker) == 0
    clock.now += 0.2
    anyio.run(publisher.publish_job, make_job())
    assert messages(broker) == 1


def test_a_broker_that_is_well_is_given_each_job_at_once_and_only_those_that_wait(
    db: Sessions, broker: Any, make_job: Callable[[], Any]
) -> None:
    publisher = Publisher(broker, db)
    jobs = [make_job() for _ in range(3)]
    with db.begin() as session:
        jobs.append(queries.request_pause(session, make_job().id))

    async def publish() -> None:
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(publisher.publish_job, job)

    anyio.run(publish)
    assert messages(broker) == 3
    with db.begin() as session:  # none is published again
        assert queries.sweep(session, max_attempts=3).to_publish == []


def test_jobs_come_to_the_broker_in_the_order_in_which_they_were_submitted(
    db: Sessions, broker: Any, make_job: Callable[[], Any]
) -> None:
    """The first ones too, while the first of all still opens the connection."""
    publisher = Publisher(broker, db)
    jobs = [make_job() for _ in range(40)]

    async def publish() -> None:
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(publisher.publish_job, job)

    anyio.run(publish)
    assert [job_id for _, job_id in received(broker, "cpu")] == [job.id for job in jobs]
