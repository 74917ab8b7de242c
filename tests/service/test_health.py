"""Readiness says what is away, and the metrics count what happened."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

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
        assert response.json()["detail"].startswith("broker: it ")


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
