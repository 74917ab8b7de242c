"""API keys: without one nothing is shown, and each key sees only its own."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from fastapi import FastAPI

from service.app import create_app
from service.auth import Caller, Way, caller_of
from service.commands.keys import keys
from service.errors import Unauthorized
from store.settings import Settings

ALICE = "alice-has-a-long-key"
BOB = "bob-has-another-long-key"
SHORT = {"spec": {"dataset": "digits", "architecture": "64,(8),(4)"}}


@pytest.fixture
def client(settings: Settings, serve: Any) -> Iterator[httpx.Client]:
    keyed = Settings(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": f"{ALICE},{BOB}"})
    with serve(create_app(keyed)) as client:
        yield client


def signed(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def owner(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", f"Basic {ALICE}", ALICE, f"Bearer {ALICE}x", "Bearer \xe9"]
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_request_without_a_valid_key_is_a_401(client: httpx.Client, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for method, path in (
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/x"),
        ("POST", "/v1/models/x/predict"),
        ("GET", "/metrics"),
    ):
        response = client.request(method, path, headers=headers)  # type: ignore[arg-type]  # httpx takes bytes
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["code"] == "unauthorized"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_health_and_documentation_need_no_key(client: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200, path


def test_without_keys_only_this_machine_is_answered() -> None:
    for here in ("127.0.0.1", "::1", None):
        assert caller_of(None, None, Way(address=here)) == Caller("", None)
    for beyond in ("192.0.2.7", "10.0.0.1", "2001:db8::1", "0.0.0.0"):
        with pytest.raises(Unauthorized, match="on loopback only"):
            caller_of(None, None, Way(address=beyond))


def test_without_keys_a_name_that_is_not_this_machines_own_is_not_answered() -> None:
    for own in ("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:8000", "[::1]:8000", None):
        assert caller_of(None, None, Way("127.0.0.1", own)).owner == ""
    for foreign in (
        "elsewhere.example",
        "127.0.0.1.elsewhere.example",
        "localhost.elsewhere.example:80",
        "",
        "10.0.0.1",
    ):
        with pytest.raises(Unauthorized, match="the names localhost"):
            caller_of(None, None, Way("127.0.0.1", foreign))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_keys_nobody_behind_a_proxy_is_answered(app: FastAPI, serve: Any) -> None:
    with serve(app) as client:
        assert client.get("/v1/presets").status_code == 200
        for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
            refused = client.get("/v1/presets", headers={header: "192.0.2.7"})
            assert (refused.status_code, "no proxy" in refused.json()["detail"]) == (401, True), header


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_keys_a_unix_socket_answers_to_this_machines_names_only(app: FastAPI, tmp_path: Path) -> None:
    path = str(tmp_path / "api.sock")
    server = uvicorn.Server(uvicorn.Config(app, uds=path, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
            assert client.get("http://localhost/v1/presets").status_code == 200
            assert client.get("http://elsewhere.example/v1/presets").status_code == 401
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_keys_a_client_in_the_same_process_is_answered_and_no_other_that_calls_itself_so(
    app: FastAPI, serve: Any
) -> None:
    with serve(app) as beyond:

        async def ask() -> int:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver:8080") as inside:
                return (await inside.get("/v1/presets")).status_code

        assert asyncio.run(ask()) == 200
        assert beyond.get("/v1/presets", headers={"Host": "testserver"}).status_code == 401


def test_each_key_sees_only_its_own(client: httpx.Client, make_model: Any) -> None:
    job = client.post("/v1/jobs", json=SHORT, headers=signed(ALICE)).json()["id"]
    model = make_model(owner=owner(ALICE))
    assert client.get(f"/v1/jobs/{job}", headers=signed(ALICE)).status_code == 200
    assert client.get(f"/v1/models/{model}", headers={"Authorization": f"bearer {ALICE}"}).status_code == 200
    image = {"images": [[0, 0, 0, 0]]}
    assert client.post(f"/v1/models/{model}/predict", json=image, headers=signed(ALICE)).status_code == 200
    for method, path, body in (
        ("GET", f"/v1/jobs/{job}", None),
        ("GET", f"/v1/jobs/{job}/metrics", None),
        ("GET", f"/v1/jobs/{job}/events", None),
        ("POST", f"/v1/jobs/{job}/cancel", None),
        ("GET", f"/v1/models/{model}", None),
        ("GET", "/v1/models/latest", None),
        ("GET", f"/v1/models/{model}/artifacts/spec.json", None),
        ("POST", f"/v1/models/{model}/predict", image),
        ("PUT", "/v1/aliases/mine", {"model": model}),
    ):
        response = client.request(method, path, json=body, headers=signed(BOB))
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), path
    assert client.get("/v1/jobs", headers=signed(BOB)).json()["data"] == []
    assert client.get("/v1/models", headers=signed(BOB)).json()["data"] == []


def test_keys_have_idempotency_keys_and_aliases_of_their_own(client: httpx.Client, make_model: Any) -> None:
    jobs = {
        client.post("/v1/jobs", json=SHORT, headers={**signed(key), "Idempotency-Key": "k"}).json()["id"]
        for key in (ALICE, BOB)
    }
    assert len(jobs) == 2
    models = {key: make_model(owner=owner(key)) for key in (ALICE, BOB)}
    for key, model in models.items():
        assert client.put("/v1/aliases/best", json={"model": model}, headers=signed(key)).status_code == 200
    for key, model in models.items():
        image = {"images": [[0, 0, 0, 0]]}
        answer = client.post("/v1/models/best/predict", json=image, headers=signed(key)).json()
        assert answer["model"] == model


def test_the_first_key_owns_what_was_made_without_one(
    app: FastAPI, serve: Any, make_model: Any, settings: Settings
) -> None:
    with serve(app) as client:
        model = make_model()
        assert client.put("/v1/aliases/digits", json={"model": model}).status_code == 200
        image = {"images": [[0, 0, 0, 1]]}
        assert client.post("/v1/models/digits/predict", json=image).status_code == 200  # so that it is in memory
        variables = {"INTFF_DATABASE_URL": settings.database_url}
        first, second = (
            CliRunner().invoke(keys, ["create", name, "--home", str(settings.home)], env=variables)
            for name in ("first", "second")
        )
        assert "1 job and their models" in first.stderr
        assert "owns" not in second.stderr
        deadline = time.monotonic() + 10
        while client.get("/v1/jobs").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for made, sees in ((first, True), (second, False)):
            headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
            assert len(client.get("/v1/jobs", headers=headers).json()["data"]) == sees
            for name in (model, "digits", "latest"):
                answer = client.post(f"/v1/models/{name}/predict", json=image, headers=headers)
                assert answer.status_code == (200 if sees else 404), name
