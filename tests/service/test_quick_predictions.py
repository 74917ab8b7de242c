"""Small predictions go around the framework, and nobody can tell but by the time it takes."""

from __future__ import annotations

import socket
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.quick_predictions import QuickPredictions
from store.settings import Settings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

BODY = {"images": [[0.25, 0.5, 1.0, 0.0]]}


@pytest.fixture
def handed_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that went to the framework after all."""
    paths: list[str] = []
    install = QuickPredictions.__init__

    def watch(self: QuickPredictions, app: Any, metrics: Any) -> None:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            paths.append(scope.get("path", ""))
            await app(scope, receive, send)

        install(self, noting, metrics)

    monkeypatch.setattr(QuickPredictions, "__init__", watch)
    return paths


def test_the_second_request_does_not_reach_the_framework_and_has_the_same_answer(
    handed_on: list[str], client: httpx.Client, make_model: Any
) -> None:
    path = f"/v1/models/{make_model()}/predict"
    first = client.post(path, json=BODY)  # which loads the model
    second = client.post(path, json=BODY)
    assert first.json() == second.json()
    assert first.headers.keys() == second.headers.keys()
    assert handed_on.count(path) == 1


def test_an_alias_is_quick_too(handed_on: list[str], client: httpx.Client, make_model: Any) -> None:
    make_model()
    for _ in range(2):
        assert client.post("/v1/models/latest/predict", json=BODY).status_code == 200
    assert handed_on.count("/v1/models/latest/predict") == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 422), (b'{"images": []}', 422), (b'{"images": [[NaN, 0, 0, 0]]}', 422), (b'{"images": [[2, 3]]}', 422)],
)
def test_what_is_wrong_is_refused_as_ever(client: httpx.Client, make_model: Any, body: bytes, status: int) -> None:
    path = f"/v1/models/{make_model()}/predict"
    client.post(path, json=BODY)
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_called_compressed_is_refused_as_ever(client: httpx.Client, make_model: Any) -> None:
    path = f"/v1/models/{make_model()}/predict"
    statuses = [
        client.post(path, json=BODY, headers={"Content-Encoding": coding}).status_code
        for coding in ("gzip", "identity", "gzip")
    ]
    assert statuses == [415, 200, 415]


def test_it_is_counted_and_has_its_request_id(client: httpx.Client, make_model: Any) -> None:
    path = f"/v1/models/{make_model()}/predict"
    for number in range(3):
        answer = client.post(path, json=BODY, headers={"X-Request-ID": f"r{number}"})
        assert answer.headers["x-request-id"] == f"r{number}"
    page = client.get("/metrics").text
    assert 'intff_http_requests_total{method="POST",route="/v1/models/{model}/predict",status="200"} 3.0' in page
    assert "intff_predictions_total 3.0" in page


def test_a_model_in_memory_is_still_its_owners_alone(settings: Settings, serve: Any, make_model: Any) -> None:
    keys = ["a-key-of-sixteen-letters", "b-key-of-sixteen-letters"]
    closed = settings.model_copy(update={"api_keys": Settings(api_keys=",".join(keys)).api_keys})
    path = f"/v1/models/{make_model(owner=closed.api_keys[0])}/predict"
    with serve(create_app(closed)) as client:
        for _ in range(2):
            statuses = [
                client.post(path, json=BODY, headers={"Authorization": f"Bearer {key}"} if key else {}).status_code
                for key in (*keys, "", "c-key-of-sixteen-letters")
            ]
            assert statuses == [200, 404, 401, 401]


def test_a_body_in_pieces_is_answered_however_slow(app: FastAPI, serve: Any, make_model: Any) -> None:
    path = f"/v1/models/{make_model()}/predict"
    body = b'{"images": [[0.25, 0.5, 1.0, 0.0]]}'
    with serve(app) as client:
        expected = client.post(path, json=BODY).json()
        for pause in (0.05, 1.2):  # within the patience for it, and beyond
            with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                connection.sendall(head.encode() + body[:10])
                time.sleep(pause)
                connection.sendall(body[10:])
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
            assert httpx.Response(200, content=answer.split(b"\r\n\r\n", 1)[1]).json() == expected
