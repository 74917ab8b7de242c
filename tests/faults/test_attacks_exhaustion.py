"""Specs and requests made to exhaust: refused by estimate before anything is allocated, or by quota."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.settings import Settings
from store.tables import NO_OWNER
from tests.faults.attacks import SPEC, Target, attacked, signed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

ALICE, BOB = "alice-has-a-long-key", "bob-has-another-long-key"
MOST_JOBS = 5


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = {"INTFF_API_KEYS": f"{ALICE},{BOB}", "INTFF_MAX_QUEUED_JOBS": str(MOST_JOBS)}
    with attacked(tmp_path_factory.mktemp("exhaustion"), **settings) as target:
        yield target


EXHAUSTING: dict[str, tuple[dict[str, Any], str]] = {
    "a billion neurons": ({"architecture": {"units": [[10**9]]}}, "architecture"),
    "64 units of 64 layers of a billion": ({"architecture": {"units": [[10**9] * 64] * 64}}, "architecture"),
    "many parameters": ({"architecture": "784,(20000,20000)"}, "architecture"),
    "many activations": ({"architecture": "784,(5000,5000),(500)", "training": {"batch_size": 60_000}}, "batch_size"),
    "a batch of everything": ({"training": {"batch_size": 10**9}}, "batch_size"),
    "many negatives": ({"algorithm": {"negatives": {"kind": "random_label", "count": 10**6}}}, "count"),
    "a million epochs": ({"training": {"epochs": 10**6}}, "epochs"),
    "more epochs than allowed": ({"training": {"epochs": 10_001}}, "epochs"),
    "more images than there are": ({"dataset": {"kind": "mnist", "train_size": 10**12}}, "train_size"),
    "an enormous image": ({"architecture": {"input_shape": [10**9, 10**9, 10**9], "units": [[1]]}}, "architecture"),
    "a hundred thousand layers": ({"architecture": "784," + ",".join(["1"] * 100_000)}, "architecture"),
    "a hundred thousand parentheses": ({"architecture": "784," + "(" * 100_000}, "architecture"),
    "one number of many digits": ({"architecture": "784," + "9" * 100_000}, "architecture"),
    "a hundred thousand units": ({"architecture": {"units": [[1]] * 100_000}}, "architecture"),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_it_is_refused_by_estimate_and_nothing_is_allocated(target: Target, name: str) -> None:
    spec, field = EXHAUSTING[name]
    with httpx.Client(base_url=target.url, headers=signed(ALICE), timeout=30) as client:
        client.post("/v1/jobs", json={"spec": {"architecture": "x"}})
        before = target.memory
        began = time.monotonic()
        answer = client.post("/v1/jobs", json={"spec": spec})
        seconds = time.monotonic() - began
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec")
    assert any(field in error["field"] for error in answer.json()["errors"]), answer.text[:500]
    assert len(answer.content) < 20_000
    assert seconds < 2
    assert target.memory - before < 24 * 2**20


@pytest.mark.alone
def test_while_they_are_refused_others_are_answered(target: Target, record_property: Any) -> None:
    """Twenty at a time of the largest bodies that are read at all."""
    heavy = {"spec": {"architecture": {"units": [[1]] * 200_000}}}

    def send(_: int) -> int:
        return httpx.post(f"{target.url}/v1/jobs", json=heavy, headers=signed(ALICE), timeout=60).status_code

    slowest = 0.0
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(send, range(40))
        for _ in range(20):
            began = time.monotonic()
            assert httpx.get(f"{target.url}/v1/jobs", headers=signed(BOB), timeout=30).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert set(sent) == {422}
    record_property("fault", ["bodies as heavy as are read", 40, f"slowest answer to others {slowest:.1f} s"])
    assert slowest < 5


def test_a_key_has_a_quota_of_unfinished_jobs_of_its_own(target: Target) -> None:
    def submit(key: str) -> httpx.Response:
        return httpx.post(f"{target.url}/v1/jobs", json={"spec": SPEC}, headers=signed(key), timeout=30)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(submit, [ALICE] * 25))
    assert Counter(answer.status_code for answer in answers) == {202: MOST_JOBS, 429: 25 - MOST_JOBS}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["code"] == "quota_exceeded"
            assert int(answer.headers["retry-after"]) >= 1
    assert submit(BOB).status_code == 202
    accepted = next(answer.json()["id"] for answer in answers if answer.status_code == 202)
    assert httpx.post(f"{target.url}/v1/jobs/{accepted}/cancel", headers=signed(ALICE)).status_code == 200
    assert [submit(ALICE).status_code for _ in range(2)] == [202, 429]


def test_a_key_has_a_quota_by_default_and_an_open_service_has_none(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.most_queued_jobs("some key's owner") == 1000
    assert settings.most_queued_jobs(NO_OWNER) is None
