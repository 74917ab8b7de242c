"""Event streams: everything is told, once, in order, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx_sse import ServerSentEvent, connect_sse
from sqlalchemy import delete

from service.routes.events import Teller
from service.watcher import Change, Epoch, Place, Snapshot
from store import queries
from store.attempts import Claim
from store.database import Sessions
from store.statuses import JobStatus
from store.tables import Job


def metrics_of(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "seconds": 1.5,
        "loss": 0.5,
        "unit_losses": [0.25],
        "unit_goodness_positive": [2.0],
        "unit_goodness_negative": [1.0],
        "validation_accuracy": 0.75,
        "learning_rate": 0.003,
        "samples_per_second": 1000.0,
    }


def begin(db: Sessions, job_id: str) -> Claim:
    with db.begin() as session:
        claim = queries.claim(session, job_id, worker="w", lease_seconds=60, max_attempts=3)
    assert claim is not None
    return claim


def report(db: Sessions, claim: Claim, epoch: int) -> None:
    with db.begin() as session:
        progress = {"epoch": epoch, "epochs": 9, "fraction": epoch / 9, "eta_seconds": 1.0}
        assert queries.record_epoch(session, claim, metrics_of(epoch), progress)


def fail(db: Sessions, claim: Claim) -> None:
    with db.begin() as session:
        assert queries.fail(session, claim, code="diverged", message="the loss became NaN")


def events(client: httpx.Client, job_id: str, last: str | None = None) -> Iterator[ServerSentEvent]:
    headers = {"Last-Event-ID": last} if last else {}
    with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source:
        yield from source.iter_sse()


def epochs_of(found: list[ServerSentEvent]) -> list[int]:
    return [json.loads(event.data)["epoch"] for event in found if event.event == "metrics"]


def test_a_finished_job_tells_its_epochs_and_its_end(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    job = make_job()
    claim = begin(db, job.id)
    report(db, claim, 1)
    report(db, claim, 2)
    fail(db, claim)
    found = list(events(client, job.id))
    assert [event.event for event in found] == ["metrics", "metrics", "progress", "status"]
    assert json.loads(found[0].data) == metrics_of(1)
    assert json.loads(found[-1].data) == client.get(f"/v1/jobs/{job.id}").json()
    assert all(event.id for event in found)


def test_a_running_job_is_followed_to_its_end(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    job = make_job()

    def work() -> None:
        claim = begin(db, job.id)
        for epoch in range(1, 6):
            report(db, claim, epoch)
            time.sleep(0.05)
        fail(db, claim)

    worker = threading.Thread(target=work)
    found: list[ServerSentEvent] = []
    for event in events(client, job.id):
        if not found:
            assert (event.event, json.loads(event.data)["status"]) == ("status", "queued")
            worker.start()
        found.append(event)
    worker.join()
    statuses = [json.loads(event.data)["status"] for event in found if event.event == "status"]
    assert statuses[0] == "queued"
    assert statuses[-1] == "failed"
    assert epochs_of(found) == [1, 2, 3, 4, 5]


def test_a_job_that_cannot_be_read_silences_no_other(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    broken, job = make_job(), make_job()
    claim = begin(db, broken.id)
    with db.begin() as session:
        progress = {"epoch": 1, "epochs": 9, "fraction": 1 / 9, "eta_seconds": 1.0}
        assert queries.record_epoch(session, claim, {**metrics_of(1), "loss": float("nan")}, progress)  # kept as null
    with (
        httpx.Client(base_url=client.base_url, timeout=30) as other,
        other.stream("GET", f"/v1/jobs/{broken.id}/events") as held,
    ):
        assert held.status_code == 200
        found: list[ServerSentEvent] = []
        for event in events(client, job.id):
            if not found:
                time.sleep(1)  # the broken one has been looked at by then
                fail(db, begin(db, job.id))
            found.append(event)
    assert json.loads(found[-1].data)["status"] == "failed"


def test_a_job_that_is_no_longer_there_ends_its_stream_and_silences_no_other(
    client: httpx.Client, db: Sessions, make_job: Any
) -> None:
    """As after the database went back to an older backup."""
    gone, job = make_job(), make_job()
    claim = begin(db, job.id)
    found = []
    for event in events(client, gone.id):
        found.append(event.event)
        with db.begin() as session:
            session.execute(delete(Job).where(Job.id == gone.id))
    assert found == ["status", "progress"]
    assert client.get(f"/v1/jobs/{gone.id}/events").status_code == 404
    fail(db, claim)
    assert json.loads(list(events(client, job.id))[-1].data)["status"] == "failed"


def test_a_stream_goes_on_after_the_last_event_without_repeating_or_losing_an_epoch(
    client: httpx.Client, db: Sessions, make_job: Any
) -> None:
    job = make_job()
    claim = begin(db, job.id)
    for epoch in (1, 2, 3):
        report(db, claim, epoch)
    first = []
    for event in events(client, job.id):
        first.append(event)
        if epochs_of(first) == [1, 2]:
            break  # the connection breaks after the second epoch
    report(db, claim, 4)
    fail(db, claim)
    rest = list(events(client, job.id, first[-1].id))
    assert epochs_of(rest) == [3, 4]
    assert json.loads(rest[-1].data)["status"] == "failed"


def test_after_the_terminal_status_there_is_nothing_to_come_back_for(
    client: httpx.Client, db: Sessions, make_job: Any
) -> None:
    job = make_job()
    fail(db, begin(db, job.id))
    last = list(events(client, job.id))[-1].id
    response = client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": last})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("last", ["nonsense", "1", "-1--1", "999999999999-1"])
def test_an_id_that_is_not_ours_starts_from_the_beginning(
    client: httpx.Client, db: Sessions, make_job: Any, last: str
) -> None:
    job = make_job()
    claim = begin(db, job.id)
    report(db, claim, 1)
    fail(db, claim)
    assert epochs_of(list(events(client, job.id, last))) == [1]


def test_many_streams_share_one_poller_and_leave_nothing_behind(
    app: FastAPI, client: httpx.Client, db: Sessions, make_job: Any
) -> None:
    job = make_job()
    claim = begin(db, job.id)
    results: list[list[int]] = []

    def follow() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            results.append(epochs_of(list(events(own, job.id))))

    followers = [threading.Thread(target=follow) for _ in range(30)]
    for follower in followers:
        follower.start()
    watcher = app.state.parts.watcher
    wait_until(lambda: len(watcher._mailboxes) == 30)
    assert app.state.parts.engine.pool.checkedout() <= 1  # the poller's, if it is just asking
    report(db, claim, 1)
    report(db, claim, 2)
    fail(db, claim)
    for follower in followers:
        follower.join()
    assert results == [[1, 2]] * 30
    wait_until(lambda: not watcher._mailboxes)


def test_a_client_that_goes_away_is_forgotten(app: FastAPI, client: httpx.Client, make_job: Any) -> None:
    job = make_job()
    stream = events(client, job.id)
    next(stream)
    watcher = app.state.parts.watcher
    assert len(watcher._mailboxes) == 1
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    wait_until(lambda: not watcher._mailboxes)


def test_an_idle_stream_is_kept_alive(client: httpx.Client, make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.routes.events._KEEP_ALIVE_SECONDS", 0.1)
    with client.stream("GET", f"/v1/jobs/{make_job().id}/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert next(line for line in response.iter_lines() if line.startswith(":")) == ": still here"


def test_a_queued_job_tells_when_a_worker_begins_to_serve_its_queue(
    client: httpx.Client, db: Sessions, make_job: Any
) -> None:
    stream = (json.loads(event.data) for event in events(client, make_job().id) if event.event == "progress")
    assert "no live worker" in next(stream)["waiting"]
    with db.begin() as session:
        queries.beat(session, "w", queues=["cpu"], device="cpu")
    assert "waiting" not in next(stream)


def test_a_stream_lives_through_an_outage_of_the_database(
    app: FastAPI, client: httpx.Client, db: Sessions, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.watcher._BACK_OFF_SECONDS", 0.05)
    job = make_job()
    stream = events(client, job.id)
    assert next(stream).event == "status"
    with monkeypatch.context() as outage:
        outage.setattr(app.state.parts.watcher, "_sessions", None)
        fail(db, begin(db, job.id))
        time.sleep(0.5)  # several ticks fail
    assert json.loads(list(stream)[-1].data)["status"] == "failed"


@pytest.fixture
def owner(app: FastAPI, client: httpx.Client, db: Sessions) -> str:
    """Whose key `ci` is, which the client sends and the application knows."""
    with db.begin() as session:
        key, row = queries.create_key(session, "ci")
    client.headers["Authorization"] = f"Bearer {key}"
    wait_until(lambda: not app.state.parts.keyring.is_open)
    return row.owner


def revoke(db: Sessions, client: httpx.Client) -> None:
    """Revoke the key, and wait until it is refused."""
    with db.begin() as session:
        queries.revoke_key(session, "ci")
    wait_until(lambda: client.get("/v1/jobs").status_code == 401)


def test_a_revoked_key_is_told_nothing_more(client: httpx.Client, owner: str, db: Sessions, make_job: Any) -> None:
    job = make_job(owner)
    stream = events(client, job.id)
    assert next(stream).event == "status"
    revoke(db, client)
    claim = begin(db, job.id)
    report(db, claim, 1)
    fail(db, claim)
    assert {event.event for event in stream} <= {"progress"}  # told with the first status
    assert client.get(f"/v1/jobs/{job.id}/events").status_code == 401


def test_an_idle_stream_ends_when_its_key_is_revoked_and_not_because_the_database_is_away(
    *, app: FastAPI, client: httpx.Client, owner: str, db: Sessions, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.routes.events._KEEP_ALIVE_SECONDS", 0.1)
    with client.stream("GET", f"/v1/jobs/{make_job(owner).id}/events") as response:
        lines = response.iter_lines()
        with monkeypatch.context() as outage:
            outage.setattr(app.state.parts.keyring, "_read_sessions", None)
            outage.setattr("service.keyring._STALE_SECONDS", 0.0)
            wait_until(lambda: client.get("/v1/jobs").status_code == 503)
            for _ in range(10):  # some may have been on their way
                assert next(line for line in lines if line.startswith(":")) == ": still here"
        revoke(db, client)
        require_end(lines)


def test_a_stream_of_nobody_ends_when_there_is_a_key(
    client: httpx.Client, db: Sessions, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.routes.events._KEEP_ALIVE_SECONDS", 0.1)
    with client.stream("GET", f"/v1/jobs/{make_job().id}/events") as response:
        with db.begin() as session:
            queries.create_key(session, "first")
        require_end(response.iter_lines())


def require_end(lines: Iterator[str]) -> None:
    deadline = time.monotonic() + 10
    for _ in lines:
        assert time.monotonic() < deadline, "the stream goes on"


def test_only_the_last_event_of_a_change_carries_the_new_revision() -> None:
    snapshot = Snapshot(7, JobStatus.RUNNING, job="{}", progress="[]", unhurried="x")
    told = Teller(Place(2, 5)).events(Change(snapshot, (Epoch(3, "3"), Epoch(4, "4"))))
    assert list(told) == [
        b"event: status\ndata: {}\nid: 2-5\n\n",
        b"event: metrics\ndata: 3\nid: 3-5\n\n",
        b"event: metrics\ndata: 4\nid: 4-5\n\n",
        b"event: progress\ndata: []\nid: 4-7\n\n",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_open_streams_do_not_keep_a_stopping_server(database_url: str, tmp_path: Path) -> None:
    """A real process, started by the plain command, with a client that would listen for ever."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "INTFF_HOME": str(tmp_path / "home"), "INTFF_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "uvicorn", "service.app:app", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                wait_until(lambda: answers(client))
                job = client.post("/v1/jobs", json={"spec": {"dataset": "digits", "architecture": "64,(8)"}}).json()
                stream = events(client, job["id"])
                assert next(stream).event == "status"
                server.send_signal(signal.SIGTERM)
                assert {event.event for event in stream} <= {"progress", "status"}
            assert server.wait(timeout=10) in {0, -signal.SIGTERM}
        finally:
            server.kill()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
