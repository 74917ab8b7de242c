"""A key that has too many event streams open is told to come back; other keys, and a service without keys, are not."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from store.keys import key_hash
from store.queries import fail
from store.settings import Settings
from tests.service.test_events import begin

ALICE, BOB = "alice-has-a-long-key", "bob-has-another-long-key"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """An application that lets each of two keys have two streams open."""
    changed = {"api_keys": f"{ALICE},{BOB}", "max_event_streams": 2}
    return create_app(Settings(**{**settings.model_dump(exclude={*changed}), **changed}))


def signed(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def opened(client: httpx.Client, job: str, key: str, last: str = "") -> Any:
    headers = {**signed(key), "Last-Event-ID": last}
    return client.stream("GET", f"/v1/jobs/{job}/events", headers=headers)


def test_a_stream_too_many_is_a_429_until_another_one_is_closed(client: httpx.Client, make_job: Any) -> None:
    job, bobs = make_job(key_hash(ALICE)).id, make_job(key_hash(BOB)).id
    with ExitStack() as streams:
        with opened(client, job, ALICE) as first:
            assert first.status_code == 200
            assert streams.enter_context(opened(client, job, ALICE)).status_code == 200
            for _ in range(3):  # a refused one does not count
                with opened(client, job, ALICE) as refused:
                    assert refused.status_code == 429
                    assert json.loads(refused.read())["code"] == "rate_limited"
                assert refused.json()["detail"].startswith("a key may have 2 event streams open at once")
                assert refused.headers["retry-after"] == "10"
            assert client.get(f"/v1/jobs/{job}", headers=signed(ALICE)).status_code == 200
            assert streams.enter_context(opened(client, bobs, BOB)).status_code == 200
        deadline = time.monotonic() + 10
        while streams.enter_context(opened(client, job, ALICE)).status_code != 200:
            assert time.monotonic() < deadline  # the server has to notice that the first one has gone
            time.sleep(0.02)


def test_answers_that_are_no_stream_hold_nothing(app: FastAPI, client: httpx.Client, db: Any, make_job: Any) -> None:
    job = make_job(key_hash(ALICE))
    with db.begin() as session:
        fail(session, begin(db, job.id), code="diverged", message="the loss became NaN")
    for _ in range(3):
        with opened(client, "job_00000000000000000000000000", ALICE) as missing:
            assert missing.status_code == 404
        with opened(client, job.id, ALICE) as whole:
            last = [line for line in whole.iter_lines() if line.startswith("id: ")][-1]
        with opened(client, job.id, ALICE, last.removeprefix("id: ")) as over:
            assert over.status_code == 204
    assert not app.state.parts.stream_limit._open


def test_without_keys_any_number_may_be_open(settings: Settings, serve: Any, make_job: Any) -> None:
    job = make_job().id
    app = create_app(settings.model_copy(update={"max_event_streams": 1}))
    with serve(app) as client, ExitStack() as streams:
        for _ in range(3):
            stream = streams.enter_context(client.stream("GET", f"/v1/jobs/{job}/events"))
            assert stream.status_code == 200
