"""PostgreSQL crashes, freezes and stays away: answers come in bounded time, training goes on, no metric is missing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from store.patience import PATIENCE_SECONDS
from store.schema import upgrade
from tests.faults.installation import is_ready, spec

if TYPE_CHECKING:
    from tests.faults.conftest import Survived
    from tests.faults.installation import Installation
    from tests.faults.servers import PrivatePostgresql

pytestmark = pytest.mark.faults

ABSENCE_SECONDS = 30
EPOCHS = 10_000  # as many as there may be: it trains as long as the outages last, and is cancelled


@pytest.fixture
def database_url(postgresql: PrivatePostgresql) -> str:
    return postgresql.url


def bounded(installation: Installation, bound: float) -> tuple[list[str], float]:
    """Ask everything once; the jobs accepted, and the longest that an answer took."""
    accepted, longest = [], 0.0
    for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/readyz"), ("GET", "/healthz")):
        asked = time.monotonic()
        body = {"spec": spec(1)} if method == "POST" else None
        answer = httpx.request(method, installation.urls[0] + path, json=body, timeout=60)
        took = time.monotonic() - asked
        longest = max(longest, took)
        assert took < bound, f"{method} {path} took {took:.1f} s"
        if answer.status_code == 202:
            accepted.append(str(answer.json()["id"]))
        elif path == "/healthz":
            assert answer.status_code == 200
        elif answer.status_code == 503:
            assert answer.headers["content-type"] == "application/problem+json" or path == "/readyz"
        else:
            assert answer.status_code == 200
    return accepted, longest


@pytest.mark.timeout(420)
def test_a_database_that_is_restarted_frozen_and_away(
    installation: Installation, postgresql: PrivatePostgresql, survived: Survived
) -> None:
    upgrade(installation.engine)
    installation.start()
    long = installation.submit(EPOCHS)
    installation.wait_for(long, lambda now: now.latest_metrics)
    jobs = []

    postgresql.stop()
    postgresql.start()
    accepted, _ = bounded(installation, 10)
    jobs += accepted
    installation.wait(lambda: is_ready(installation.urls[0]), "the API is ready")
    survived("database crashed and restarted")

    postgresql.freeze()
    frozen_at = time.monotonic()
    _, longest = bounded(installation, PATIENCE_SECONDS + 8)
    frozen = time.monotonic() - frozen_at
    postgresql.thaw()
    survived("database frozen, connections open", figure=f"for {frozen:.0f} s; slowest answer {longest:.1f} s")

    installation.wait(lambda: is_ready(installation.urls[0]), "the API is ready")
    before = len(installation.epochs(long))
    postgresql.stop()
    gone = time.monotonic()
    longest = 0.0
    while time.monotonic() - gone < ABSENCE_SECONDS:
        accepted, slowest = bounded(installation, 10)
        assert accepted == []
        longest = max(longest, slowest)
        time.sleep(3)
    postgresql.start()
    back = time.monotonic()
    installation.wait(lambda: is_ready(installation.urls[0]), "the API is ready again")
    ready = time.monotonic() - back
    jobs += [installation.submit(1)]

    # The training went on meanwhile, and what it reported was kept, is written now, and costs it no lease.
    installation.wait(lambda: len(installation.epochs(long)) > before, "the reports arrive")
    installation.post(f"/v1/jobs/{long}/cancel")
    now = installation.wait_until_ended(long)
    assert (now.attempt, now.losses) == (1, 0)
    trained = installation.require_all_epochs(long) - before
    assert trained > ABSENCE_SECONDS  # more than one a second
    for job in jobs:
        installation.wait_until_succeeded(job)
        installation.require_whole(job, 1)
    survived(
        f"database absent for {ABSENCE_SECONDS} s",
        figure=f"slowest answer {longest:.1f} s; ready {ready:.1f} s after; no attempt lost, "
        f"the metrics of {trained} epochs of the gap were kept and written",
    )
