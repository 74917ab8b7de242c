"""A key that sends too many requests is told when to come back; other keys do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service import rate_limit
from service.app import create_app
from service.rate_limit import RateLimit, RateLimited
from store.settings import Settings

ALICE, BOB = "alice-has-a-long-key", "bob-has-another-long-key"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate_limit, "monotonic", clock)
    return clock


def test_a_bucket_holds_a_burst_and_fills_at_the_rate(clock: Clock) -> None:
    limit = RateLimit(per_second=2, burst=3)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(RateLimited, match="2 requests a second, and 3 at once") as refused:
        limit.take("a")
    assert refused.value.headers == {"Retry-After": "1"}
    limit.take("b")
    clock.now += 0.5
    limit.take("a")
    with pytest.raises(RateLimited):
        limit.take("a")
    clock.now += 3600
    for _ in range(3):
        limit.take("a")
    with pytest.raises(RateLimited):
        limit.take("a")


def test_a_slow_rate_says_how_long_to_wait(clock: Clock) -> None:
    limit = RateLimit(per_second=0.1, burst=1)
    limit.take("a")
    clock.now += 1
    with pytest.raises(RateLimited) as refused:
        limit.take("a")
    assert refused.value.headers == {"Retry-After": "9"}


def test_a_rate_of_zero_is_no_limit() -> None:
    limit = RateLimit(per_second=0, burst=1)
    for _ in range(100):
        limit.take("a")


@pytest.fixture
def client(settings: Settings, serve: Any) -> Iterator[httpx.Client]:
    changed = {"api_keys": f"{ALICE},{BOB}", "rate_limit_per_second": 0.01, "rate_limit_burst": 3}
    with serve(create_app(Settings(**{**settings.model_dump(exclude={*changed}), **changed}))) as client:
        yield client


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_answer_is_a_429_with_retry_after_on_every_route(client: httpx.Client) -> None:
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in (ALICE, BOB))
    for _ in range(3):
        assert client.get("/v1/jobs", headers=alice).status_code == 200
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/models/latest/predict"), ("GET", "/metrics")):
        refused = client.request(method, path, headers=alice)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 90 <= int(refused.headers["retry-after"]) <= 100
    assert client.get("/v1/jobs", headers=bob).status_code == 200
    assert client.get("/healthz").status_code == 200
