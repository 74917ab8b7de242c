"""API keys: nothing without one, nothing of another's, never to be seen again, and gone when revoked."""

from __future__ import annotations

import hmac
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from service.auth import caller_of
from store.keys import key_hash
from tests.faults.attacks import IMAGE, SPEC, Target, attacked, signed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

CONFIGURED = "canary-of-the-variable-0123456789"
NEEDS_NO_KEY = {"/healthz", "/readyz"}


def keys(target: Target, *arguments: str) -> str:
    """`intff keys`, as its own process beside the service."""
    program = Path(sys.executable).with_name("intff")
    ran = subprocess.run(
        [str(program), "keys", *arguments],
        env=target.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout.strip()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("keys"), INTFF_API_KEYS=CONFIGURED, INTFF_LOG_LEVEL="debug") as target:
        yield target


@pytest.fixture(scope="module")
def alice(target: Target) -> str:
    return keys(target, "create", "alice")


@pytest.fixture(scope="module")
def owned(target: Target, alice: str) -> dict[str, str]:
    """A job and a model of Alice's, as the path parameters of every route."""
    job, model = target.publish(key_hash(alice))
    wait_until(target, alice, 200)
    return {"job_id": job, "model": model, "name": "spec.json", "alias": "best"}


def wait_until(target: Target, key: str, status: int) -> float:
    """How long a key takes to be answered so."""
    began = time.monotonic()
    while httpx.get(f"{target.url}/v1/jobs", headers=signed(key)).status_code != status:
        assert time.monotonic() - began < 5, f"still not {status}"
        time.sleep(0.02)
    return time.monotonic() - began


def routes(target: Target) -> list[tuple[str, str]]:
    """Every method and path that the OpenAPI document has."""
    document = httpx.get(f"{target.url}/openapi.json").json()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def body_of(method: str, path: str, owned: dict[str, str]) -> Any:
    if path.endswith("/predict"):
        return {"images": [IMAGE]}
    return {"spec": SPEC} if path == "/v1/jobs" and method == "POST" else {"model": owned["model"]}


def test_every_route_is_a_401_without_a_key_whatever_its_body(target: Target, owned: dict[str, str]) -> None:
    found = routes(target)
    assert len(found) >= 19
    for method, path in found:
        if path in NEEDS_NO_KEY:
            continue
        for header in ({}, signed("no-key-of-this-service"), {"Authorization": f"Basic {CONFIGURED}"}):
            for content in (json.dumps(body_of(method, path, owned)).encode(), b"[" * 1000, b"\xff"):
                headers = {**header, "Content-Type": "application/json"}
                url = target.url + path.format(**owned)
                answer = httpx.request(method, url, content=content if method != "GET" else None, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), (method, path)


def test_every_route_of_one_thing_is_a_404_with_anothers_key(target: Target, alice: str, owned: dict[str, str]) -> None:
    checked = 0
    for method, path in routes(target):
        if "{" not in path:
            continue
        for key, is_allowed in ((CONFIGURED, False), (alice, True)):
            if method == "POST" and not path.endswith("predict") and is_allowed:
                continue  # moves of a job that has succeeded are conflicts
            with httpx.stream(
                method,
                target.url + path.format(**owned),
                headers=signed(key),
                json=None if method == "GET" else body_of(method, path, owned),
            ) as answer:
                assert answer.status_code == (200 if is_allowed else 404), (method, path, is_allowed)
        checked += 1
    assert checked == 12
    for path in ("/v1/jobs", "/v1/models"):
        assert httpx.get(target.url + path, headers=signed(CONFIGURED)).json()["data"] == []
        assert len(httpx.get(target.url + path, headers=signed(alice)).json()["data"]) == 1


def test_a_revoked_key_stops_working_within_a_second_or_so(target: Target) -> None:
    key = keys(target, "create", "short-lived")
    assert wait_until(target, key, 200) < 2
    assert httpx.get(f"{target.url}/v1/jobs", headers=signed(CONFIGURED)).status_code == 200
    keys(target, "revoke", "short-lived")
    assert wait_until(target, key, 401) < 2
    assert httpx.get(f"{target.url}/v1/jobs", headers=signed(CONFIGURED)).status_code == 200


def test_an_open_stream_of_a_revoked_key_ends_with_its_next_keep_alive(target: Target) -> None:
    key = keys(target, "create", "watching")
    wait_until(target, key, 200)
    job = httpx.post(f"{target.url}/v1/jobs", json={"spec": SPEC}, headers=signed(key)).json()["id"]
    with httpx.stream("GET", f"{target.url}/v1/jobs/{job}/events", headers=signed(key), timeout=15) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: status"
        keys(target, "revoke", "watching")
        revoked = time.monotonic()
        for _ in lines:
            assert time.monotonic() - revoked < 12, "the stream goes on"


def test_no_key_is_ever_written_anywhere(tmp_path: Path) -> None:
    """Plant both kinds of key in every request and every kind of answer, then search everything for them."""
    with attacked(tmp_path, INTFF_API_KEYS=CONFIGURED, INTFF_LOG_LEVEL="debug") as target:
        search(target)


def search(target: Target) -> None:
    bodies = b""
    alice = keys(target, "create", "alice")
    job, model = target.publish(key_hash(alice))
    owned = {"job_id": job, "model": model, "name": "spec.json", "alias": "best"}
    wait_until(target, alice, 200)
    planted = (alice, CONFIGURED)
    for key in planted:
        for method, path in routes(target):
            for content in (b'{"', json.dumps(body_of(method, path, owned)).encode()):
                headers = {**signed(key), "Content-Type": "application/json"}
                with httpx.stream(
                    method, target.url + path.format(**owned), content=content, headers=headers
                ) as answer:
                    bodies += b"".join(answer.iter_raw())
        for scheme in (f"Basic {key}", key, f"Bearer  {key}x", f"Bearer {key}, Bearer {key}"):
            answer = httpx.get(f"{target.url}/v1/jobs", headers={"Authorization": scheme})
            bodies += answer.content + repr(answer.headers).encode()
    bodies += httpx.get(f"{target.url}/openapi.json").content
    bodies += httpx.get(f"{target.url}/metrics", headers=signed(alice)).content
    fail_inside(target, alice)
    with sqlite3.connect(target.folder / "intff.db") as database:
        text = "\n".join(database.iterdump()).encode()
    logs = b"".join(path.read_bytes() for path in target.folder.glob("*.log"))
    files = b"".join(path.read_bytes() for path in target.folder.rglob("*") if path.is_file())
    assert b"request_failed" in logs  # there was a traceback to search
    assert key_hash(alice).encode() in text
    for key in planted:
        for name, searched in (("answers", bodies), ("database", text), ("logs", logs), ("files", files)):
            assert key.encode() not in searched, name
    assert alice[len("intff_") + 6 :].encode() not in text + logs + files + bodies


def fail_inside(target: Target, key: str) -> None:
    """A request that fails in the server, with its traceback: a row is not what it must be."""
    with sqlite3.connect(target.folder / "intff.db", timeout=30) as database:
        database.execute("UPDATE models SET manifest = '[]'")
        database.commit()
    answer = httpx.get(f"{target.url}/v1/models", headers=signed(key))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "Traceback" not in answer.text


def test_every_known_key_is_compared_and_in_constant_time() -> None:
    owners = {key_hash(name): name for name in ("first", "second", "third")}
    with mock.patch("service.auth.hmac.compare_digest", wraps=hmac.compare_digest) as compare:
        assert caller_of("Bearer first", owners).owner == "first"
    assert compare.call_count == 3


@pytest.mark.parametrize("headers", [{}, {"Access-Control-Request-Headers": "authorization"}])
def test_no_other_site_may_read_an_answer(target: Target, headers: dict[str, str]) -> None:
    origin = {"Origin": "https://elsewhere.example", **signed(CONFIGURED)}
    for method in ("GET", "POST", "PUT", "DELETE"):
        asked = httpx.options(
            f"{target.url}/v1/jobs", headers={**origin, "Access-Control-Request-Method": method, **headers}
        )
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]
    read = httpx.get(f"{target.url}/v1/jobs", headers=origin)
    assert read.status_code == 200
    assert not [name for name in read.headers if name.startswith("access-control")]


def test_a_page_of_another_site_cannot_post_to_an_open_service(tmp_path: Path) -> None:
    """What a browser sends without asking first is a form or text, and neither makes a job."""
    with attacked(tmp_path) as target:
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"Origin": "https://elsewhere.example", "Content-Type": media_type}
            answer = httpx.post(f"{target.url}/v1/jobs", content=json.dumps({"spec": SPEC}), headers=headers)
            assert answer.status_code == 415
        rebound = httpx.get(f"{target.url}/v1/jobs", headers={"Host": "elsewhere.example"})
        assert (rebound.status_code, rebound.json()["code"]) == (401, "unauthorized")


def test_an_address_for_everybody_needs_a_key_of_either_kind(tmp_path: Path) -> None:
    """The API itself, told that it is reached from everywhere; the supervisor's own tests show the same of it."""
    target = Target(tmp_path, INTFF_HOST="0.0.0.0")
    try:
        with pytest.raises(AssertionError, match="without API keys the service listens on loopback only"):
            target.start()
        assert target.api.wait(20) != 0
        keys(target, "create", "first")
        target.start()
        assert httpx.get(f"{target.url}/v1/jobs").status_code == 401
    finally:
        target.close()
