"""Readiness says what is away, and the metrics count what happened."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service import readiness
from service.app import create_app
from store.settings import Settings


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    page = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_all_parts_in_reach_make_it_ready(client: httpx.Client) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "database": "ok", "broker": "ok"})


@pytest.mark.parametrize("broker", ["redis://127.0.0.1:1", "redis://192.0.2.1", "redis+socket:///nowhere/valkey.sock"])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_broker_that_is_away_is_named_in_time(settings: Settings, serve: Any, broker: str) -> None:
    with serve(create_app(settings.model_copy(update={"broker_url": broker}))) as client:
        began = time.monotonic()
        response = client.get("/readyz")
        assert time.monotonic() - began < 4
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "not_ready"
        assert response.json()["detail"] in {
            "broker: it cannot be reached; the service's log says why",
            "broker: it did not answer within 2 seconds",
        }


@pytest.fixture
def asked(app: FastAPI, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: ARG001 -- it starts the application
    """The questions to the parts, as they are asked; the parts themselves answer."""
    questions: list[str] = []
    broker = app.state.parts.broker

    def count(owner: Any, name: str) -> None:
        question = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            questions.append(name)
            return question(*arguments)

        monkeypatch.setattr(owner, name, counted)

    count(readiness, "is_current")
    count(broker, "connection_for_write")
    return questions


def ask_often(client: httpx.Client, times: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda _: client.get("/readyz"), range(times)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_asks_within_a_moment_shares_an_answer(
    client: httpx.Client, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_SHARED_SECONDS", 0.2)
    first = client.get("/readyz")
    time.sleep(0.3)
    monkeypatch.setattr(readiness, "_SHARED_SECONDS", 60)
    answers = ask_often(client, 30)
    answers.append(client.get("/readyz"))
    assert {answer.status_code for answer in (first, *answers)} == {200}
    assert sorted(asked) == ["connection_for_write"] * 2 + ["is_current"] * 2


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_hangs_is_asked_by_one_thread_and_the_others_go_on(
    client: httpx.Client, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = [], threading.Event()

    def hang(engine: Any) -> bool:
        asked.append(engine)
        return go_on.wait(20)

    monkeypatch.setattr(readiness, "is_current", hang)
    model = make_model()
    with ThreadPoolExecutor(1) as pool:
        try:
            began = time.monotonic()
            flood = pool.submit(ask_often, client, 60)  # there are six threads on two cores, and never more than 32
            while not asked:
                time.sleep(0.01)
            predicted = client.post(f"/v1/models/{model}/predict", json={"images": [[0, 0, 0, 0]]})  # which loads it
            answers = flood.result()
            assert time.monotonic() - began < 10  # what hangs takes twenty
        finally:
            go_on.set()
    assert predicted.status_code == 200
    assert {answer.json()["detail"] for answer in answers} == {"database: it did not answer within 2 seconds"}
    assert len(asked) == 1
    assert client.get("/readyz").status_code == 200


def test_metrics_count_requests_by_template_and_jobs_by_status(client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    client.post("/v1/jobs", json={"spec": {"dataset": "digits", "architecture": "64,(8)"}})
    client.post(f"/v1/models/{model}/predict", json={"images": [[0, 0, 0, 0]] * 3})
    client.get(f"/v1/models/{model}")
    client.get("/v1/nothing")
    client.request("PROPFIND", "/v1/jobs")
    found = samples(client)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert value("intff_http_requests_total", method="GET", route="/v1/models/{model}", status="200") == 1
    assert value("intff_http_requests_total", method="GET", route="unknown", status="404") == 1
    assert value("intff_http_requests_total", method="other", route="/v1/jobs", status="405") == 1
    assert value("intff_http_request_seconds_count", method="POST", route="/v1/models/{model}/predict") == 1
    assert value("intff_predictions_total") == 3
    assert value("intff_jobs", status="succeeded") == 1
    assert value("intff_jobs", status="queued") == 1
    assert value("intff_jobs", status="failed") == 0
    assert value("intff_queue_depth", queue="cpu") == 1
    assert value("intff_event_streams") == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_applications_of_one_process_count_apart(settings: Settings, serve: Any) -> None:
    with serve(create_app(settings)) as first, serve(create_app(settings)) as second:
        first.get("/v1/jobs")
        key = ("intff_http_requests_total", frozenset({"method": "GET", "route": "/v1/jobs", "status": "200"}.items()))
        assert samples(first)[key] == 1
        assert key not in samples(second)


def test_tables_of_another_version_are_told_of(app: FastAPI, client: httpx.Client) -> None:
    engine = app.state.parts.engine
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME COLUMN priority TO urgency"))
    try:
        refused = client.get("/v1/jobs")
    finally:  # other tests use the same tables
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME COLUMN urgency TO priority"))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
