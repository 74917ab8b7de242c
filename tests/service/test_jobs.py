"""Jobs over HTTP: what is accepted, what is shown, and which moves are possible."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import redis
from fastapi import FastAPI
from sqlalchemy import create_engine

from intff.spec import read_spec
from service.app import create_app
from store import queries
from store.database import Sessions
from store.settings import Settings
from store.statuses import JobStatus

SHORT = {"spec": {"dataset": "digits", "architecture": "64,(8),(4)"}}


def problem(response: httpx.Response, status: int, code: str) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["instance"] == quote(response.request.url.path)
    return body


def test_an_accepted_job_is_shown_whole(client: httpx.Client) -> None:
    response = client.post("/v1/jobs", json={**SHORT, "name": "first", "metadata": {"run": 7}, "priority": 9})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", job.pop("created_at"))
    assert job == {
        "id": job["id"],
        "object": "job",
        "name": "first",
        "status": "queued",
        "is_terminal": False,
        "spec": read_spec(SHORT["spec"]).model_dump(mode="json"),
        "started_at": None,
        "finished_at": None,
        "progress": {
            "epoch": 0,
            "epochs": 30,
            "fraction": 0.0,
            "eta_seconds": None,
            "waiting": "no live worker serves the queue 'cpu'; the job starts when one does",
        },
        "latest_metrics": None,
        "result": None,
        "attempt": 0,
        "error": None,
        "model_id": None,
        "metadata": {"run": 7},
    }
    assert client.get(response.headers["location"]).json()["id"] == job["id"]


def test_a_null_is_as_good_as_nothing_for_what_may_be_left_out(client: httpx.Client) -> None:
    nothing = {"name": None, "metadata": None, "priority": None}
    job = client.post("/v1/jobs", json={"spec": {**SHORT["spec"], "preset": None}, **nothing}).json()
    assert (job["name"], job["metadata"]) == (None, {})
    assert job["spec"] == read_spec(SHORT["spec"]).model_dump(mode="json")


def test_metadata_comes_back_as_it_was(client: httpx.Client) -> None:
    metadata = {"tags": ["a", "b"], "sweep": {"rates": [0.1, 1], "of": None, "deep": [[[[[]]]]]}, "done": False, "ü": 1}
    job = client.post("/v1/jobs", json={**SHORT, "metadata": metadata}).json()
    assert job["metadata"] == metadata
    assert client.get(f"/v1/jobs/{job['id']}").json()["metadata"] == metadata


def test_a_crowd_that_submits_at_once_is_answered_at_once(client: httpx.Client) -> None:
    """More than there are threads, and threads than connections: none may keep one until its answer is written."""

    async def crowd() -> list[int]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60, limits=httpx.Limits()) as many:
            answers = await asyncio.gather(*(many.post("/v1/jobs", json=SHORT) for _ in range(80)))
        return [answer.status_code for answer in answers]

    began = time.monotonic()
    assert asyncio.run(crowd()) == [202] * 80
    assert time.monotonic() - began < 15  # it took 30 s and more, a busy database's patience, and some were a 503


def test_the_returned_spec_posted_again_is_the_same_run(client: httpx.Client) -> None:
    first = client.post("/v1/jobs", json=SHORT).json()
    second = client.post("/v1/jobs", json={"spec": first["spec"]}).json()
    assert second["spec"] == first["spec"]
    assert second["id"] != first["id"]


def test_a_job_is_published_once_it_is_committed(client: httpx.Client, settings: Settings) -> None:
    assert settings.broker_url is not None
    broker = redis.Redis(unix_socket_path=settings.broker_url.removeprefix("redis+socket://"))
    broker.flushdb()
    job = client.post("/v1/jobs", json=SHORT).json()
    deadline = time.monotonic() + 10
    while not (keys := broker.keys("cpu*")) and time.monotonic() < deadline:
        time.sleep(0.01)  # publishing comes after the answer
    [message] = broker.lrange(keys[0], 0, -1)
    assert job["id"].encode() in base64.b64decode(json.loads(message)["body"])


def test_a_waiting_job_stops_saying_so_once_a_worker_lives(client: httpx.Client, db: Sessions) -> None:
    job = client.post("/v1/jobs", json=SHORT).json()
    with db.begin() as session:
        queries.beat(session, "w", queues=["cpu"], device="cpu")
    assert "waiting" not in client.get(f"/v1/jobs/{job['id']}").json()["progress"]


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"spec": {"architecture": "784,(200"}}, "invalid_spec", "spec.architecture"),
        ({"spec": {"architecture": "784,(1000000000)"}}, "invalid_spec", "spec.architecture.units"),
        ({"spec": {"algorithm": {"kind": "intff", "theta": -1}}}, "invalid_spec", "spec.algorithm.theta"),
        ({"spec": {"dataset": "cifar"}}, "invalid_spec", "spec.dataset"),
        ({"spec": {"preset": "none"}}, "invalid_spec", "spec.preset"),
        ({"spec": {"nonsense": 1}}, "invalid_spec", "spec.nonsense"),
        ({"spec": {"training": {"epochs": 20_000}}}, "invalid_spec", "spec.training.epochs"),
        ({"spec": 5}, "invalid_spec", "spec"),
        ({}, "invalid_spec", "spec"),
        ({**SHORT, "name": "x" * 201}, "invalid_request", "name"),
        ({**SHORT, "name": ""}, "invalid_request", "name"),
        ({**SHORT, "name": "a\0b"}, "invalid_request", "name"),
        ({**SHORT, "name": "\ud800"}, "invalid_request", "name"),
        ({**SHORT, "metadata": {"a": [[[[[[[[]]]]]]]]}}, "invalid_request", "metadata.a"),
        ({**SHORT, "metadata": {"a": [{"b\0": 1}]}}, "invalid_request", "metadata.a"),
        ({**SHORT, "metadata": {"a": "x" * 20_000}}, "invalid_request", "metadata"),
        ({**SHORT, "metadata": {"a": "\0"}}, "invalid_request", "metadata.a"),
        ({**SHORT, "metadata": [1]}, "invalid_request", "metadata"),
        ({**SHORT, "priority": 10}, "invalid_request", "priority"),
        ({**SHORT, "priority": "1"}, "invalid_request", "priority"),
        ({**SHORT, "priority": 1.0}, "invalid_request", "priority"),
        ({**SHORT, "more": 1}, "invalid_request", "more"),
        ([], "invalid_request", "body"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_bad_request_is_a_422_that_names_the_field(client: httpx.Client, body: Any, code: str, field: str) -> None:
    refused = problem(post_raw(client, body), 422, code)
    assert field in [error["field"] for error in refused["errors"]]
    assert client.get("/v1/jobs").json()["data"] == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_not_json_is_told_apart(client: httpx.Client) -> None:
    def post(content: bytes, media_type: str | None = "application/json") -> httpx.Response:
        headers = {"Content-Type": media_type} if media_type else {}
        return client.post("/v1/jobs", content=content, headers=headers)

    for content in (b"{", b"", b"\xff", b'{"spec": ' + b"[" * 100_000, b'{"spec": ' + b"9" * 5000 + b"}"):
        problem(post(content), 422, "invalid_request")
    enormous = b'{"spec": {"training": {"seed": ' + b"9" * 5000 + b"}}}"
    assert "thousands of digits" in problem(post(enormous), 422, "invalid_request")["detail"]
    assert "theta" in problem(post(b'{"spec": {"algorithm": {"theta": NaN}}}'), 422, "invalid_spec")["detail"]
    assert "finite" in problem(post(b'{"spec": {}, "metadata": {"a": Infinity}}'), 422, "invalid_request")["detail"]
    assert "-H 'Content-Type: application/json'" in problem(post(b"{}", None), 415, "unsupported_media_type")["detail"]
    problem(post(b"{}", "text/plain"), 415, "unsupported_media_type")
    long = b'{"spec": {}, "name": "' + b"x" * 201 + b'"}'
    assert "at most 200 characters" in problem(post(long), 422, "invalid_request")["detail"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_a_body_can_be_in_a_form_that_is_not_read(client: httpx.Client) -> None:
    compressed = {"Content-Encoding": "gzip"}
    problem(client.post("/v1/jobs", json=SHORT, headers=compressed), 415, "unsupported_media_type")
    job = client.post("/v1/jobs", json=SHORT).json()["id"]
    assert client.get(f"/v1/jobs/{job}", headers=compressed).status_code == 200
    assert client.post(f"/v1/jobs/{job}/cancel", headers=compressed).status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_million_wrong_fields_make_a_short_answer(client: httpx.Client) -> None:
    many = {f"field{number}": 1 for number in range(10_000)}
    response = client.post("/v1/jobs", json={**SHORT, **many})
    assert len(problem(response, 422, "invalid_request")["errors"]) == 20
    assert response.json()["detail"].endswith("and 9,980 more")


def test_the_same_key_makes_one_job(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=SHORT, headers=headers)
    again = client.post("/v1/jobs", json=SHORT, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    problem(client.post("/v1/jobs", json={**SHORT, "name": "b"}, headers=headers), 409, "idempotency_key_reused")
    assert len(client.get("/v1/jobs").json()["data"]) == 1
    problem(client.post("/v1/jobs", json=SHORT, headers={"Idempotency-Key": "k" * 256}), 422, "invalid_request")


def test_jobs_are_listed_newest_first_page_by_page(client: httpx.Client) -> None:
    ids = [client.post("/v1/jobs", json={**SHORT, "name": name}).json()["id"] for name in ("a", "b", "a")]
    page = client.get("/v1/jobs", params={"limit": 2}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get("/v1/jobs", params={"limit": 2, "after": ids[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    named = client.get("/v1/jobs", params={"name": "a"}).json()["data"]
    assert [job["id"] for job in named] == [ids[2], ids[0]]
    client.post(f"/v1/jobs/{ids[0]}/cancel")
    cancelled = client.get("/v1/jobs", params={"status": "cancelled"}).json()["data"]
    assert [job["id"] for job in cancelled] == [ids[0]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("status=done", "status"),
        ("after=nonsense", "after"),
        ("after=mdl_00000000000000000000000000", "after"),
        ("name=%00", "name"),
    ],
)
def test_a_bad_query_is_a_422_that_names_the_parameter(client: httpx.Client, query: str, field: str) -> None:
    refused = problem(client.get(f"/v1/jobs?{query}"), 422, "invalid_request")
    assert [error["field"] for error in refused["errors"]] == [field]


def test_a_job_that_is_not_there_is_a_404(client: httpx.Client) -> None:
    for job in ("job_00000000000000000000000000", "nonsense", "%00", "%F0%9F%98%80", "x" * 2000):
        problem(client.get(f"/v1/jobs/{job}"), 404, "not_found")
        problem(client.get(f"/v1/jobs/{job}/metrics"), 404, "not_found")
        problem(client.get(f"/v1/jobs/{job}/events"), 404, "not_found")
        for move in ("cancel", "pause", "resume"):
            problem(client.post(f"/v1/jobs/{job}/{move}"), 404, "not_found")


def test_moves_are_repeatable_and_impossible_ones_are_conflicts(client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json=SHORT).json()["id"]

    def move(name: str) -> httpx.Response:
        return client.post(f"/v1/jobs/{job}/{name}")

    assert [move("pause").json()["status"], move("pause").json()["status"]] == ["paused", "paused"]
    assert [move("resume").json()["status"], move("resume").json()["status"]] == ["queued", "queued"]
    assert [move("cancel").json()["status"], move("cancel").json()["status"]] == ["cancelled", "cancelled"]
    problem(move("pause"), 409, "conflict")
    problem(move("resume"), 409, "conflict")


def test_metrics_are_listed_in_the_order_of_epochs(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    job = make_job()
    with db.begin() as session:
        claim = queries.claim(session, job.id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        for epoch in (1, 2):
            queries.record_epoch(
                session, claim, metrics_of(epoch), {"epoch": epoch, "epochs": 2, "fraction": epoch / 2}
            )
    assert client.get(f"/v1/jobs/{job.id}/metrics").json() == {"data": [metrics_of(1), metrics_of(2)]}
    shown = client.get(f"/v1/jobs/{job.id}").json()
    assert shown["latest_metrics"] == metrics_of(2)
    assert shown["progress"] == {"epoch": 2, "epochs": 2, "fraction": 1.0, "eta_seconds": None}


@pytest.mark.parametrize(
    ("end", "fraction"), [(JobStatus.SUCCEEDED, 1.0), (JobStatus.FAILED, 0.3), (JobStatus.PAUSED, 0.3)]
)
def test_what_does_not_run_has_nothing_to_go(
    client: httpx.Client, db: Sessions, make_job: Any, end: JobStatus, fraction: float
) -> None:
    """And a run that stopped early has ended."""
    job = make_job()
    told = {"epoch": 3, "epochs": 10, "fraction": 0.3, "eta_seconds": 7.0}
    with db.begin() as session:
        claim = queries.claim(session, job.id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        queries.renew(session, claim, told)
    assert client.get(f"/v1/jobs/{job.id}").json()["progress"] == told
    with db.begin() as session:
        queries.get_job(session, job.id, owner=None).status = end
    assert client.get(f"/v1/jobs/{job.id}").json()["progress"] == {**told, "fraction": fraction, "eta_seconds": None}


def test_a_failed_job_says_why(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    job = make_job()
    with db.begin() as session:
        claim = queries.claim(session, job.id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        queries.fail(session, claim, code="diverged", message="the loss became NaN")
    shown = client.get(f"/v1/jobs/{job.id}").json()
    assert (shown["status"], shown["is_terminal"]) == ("failed", True)
    assert shown["error"] == {"code": "diverged", "message": "the loss became NaN"}


def test_a_succeeded_job_names_its_model_and_result(client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    [job] = client.get("/v1/jobs").json()["data"]
    assert (job["status"], job["model_id"]) == ("succeeded", model)
    assert job["result"] == {"test_accuracy": 0.5, "train_seconds": 1.5}
    problem(client.post(f"/v1/jobs/{job['id']}/cancel"), 409, "conflict")


@pytest.fixture
def strict(settings: Settings, serve: Any) -> Iterator[httpx.Client]:
    """An application that lets one owner have two jobs."""
    with serve(create_app(settings.model_copy(update={"max_queued_jobs": 2}))) as client:
        yield client


def test_too_many_jobs_are_a_429(strict: httpx.Client) -> None:
    for _ in range(2):
        assert strict.post("/v1/jobs", json=SHORT).status_code == 202
    refused = strict.post("/v1/jobs", json=SHORT)
    problem(refused, 429, "quota_exceeded")
    assert refused.headers["retry-after"] == "10"


def test_a_broker_that_is_down_delays_no_job(settings: Settings, serve: Any, db: Sessions) -> None:
    away = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1"})
    with serve(create_app(away)) as client:
        response = client.post("/v1/jobs", json=SHORT)
        assert response.status_code == 202
        assert response.elapsed.total_seconds() < 1
    with db.begin() as session:  # the next sweep of any process publishes it
        assert [job.id for job in queries.sweep(session, max_attempts=3).to_publish] == [response.json()["id"]]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_is_down_is_a_503(app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = create_engine("postgresql+psycopg://root@127.0.0.1:1/gone", connect_args={"connect_timeout": 1})
    parts = app.state.parts
    monkeypatch.setitem(parts.sessions.kw, "bind", gone)
    monkeypatch.setitem(parts.read_sessions.kw, "bind", gone)
    for response in (client.post("/v1/jobs", json=SHORT), client.get("/v1/jobs"), client.get("/v1/models/latest")):
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "5"
    assert client.get("/healthz").status_code == 200


def post_raw(client: httpx.Client, body: Any) -> httpx.Response:
    return client.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"})


def metrics_of(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "seconds": 1.5,
        "loss": 0.5,
        "unit_losses": [0.25, 0.25],
        "unit_goodness_positive": [2.0, 2.0],
        "unit_goodness_negative": [1.0, 1.0],
        "validation_accuracy": 0.75,
        "learning_rate": 0.003,
        "samples_per_second": 1000.0,
    }
