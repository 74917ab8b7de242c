"""Runs as jobs of an application: found again, submitted anew where a failure may be gone, and given up in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from intff.reproduce.records import Outcome
from intff.reproduce.runners import RunFailed, remote_runner
from intff.spec import read_spec
from service import job_runner
from service.client import Client
from service.job_runner import JobRunner
from store import queries
from store.database import Sessions

SPEC = read_spec({"dataset": "digits", "architecture": "64,(8),(4)"})
Run = Callable[[], Future[Outcome]]


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The runner sees no database; one kind is enough."""
    return f"sqlite:///{tmp_path / 'intff.db'}"


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "POLL_SECONDS", 0.02)


@pytest.fixture
def api(client: httpx.Client) -> Iterator[Client]:
    with Client(str(client.base_url)) as api:
        yield api


@pytest.fixture
def runner(client: httpx.Client) -> JobRunner:
    return JobRunner(str(client.base_url), None)


@pytest.fixture
def run(runner: JobRunner) -> Iterator[Run]:
    """Begin the run, in a thread as `intff reproduce` does."""
    with ThreadPoolExecutor() as pool:
        yield lambda: pool.submit(runner, SPEC, "ours seed 0")
        runner.stop()


def the_job(api: Client, after: int = 0) -> dict[str, Any]:
    """The newest job, once there are more than so many."""
    for _ in range(1000):
        found = list(api.jobs())
        if len(found) > after:
            return dict(found[0])
        threading.Event().wait(0.01)
    raise AssertionError


def fail(db: Sessions, job_id: str, code: str) -> None:
    """Do a worker's part, in vain."""
    with db.begin() as session:
        claim = queries.claim(session, job_id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        assert queries.fail(session, claim, code=code, message="it went wrong")


def test_the_entry_point_leads_here(client: httpx.Client) -> None:
    assert isinstance(remote_runner(str(client.base_url), None), JobRunner)


def test_a_run_is_one_job_however_often_it_is_asked_for(run: Run, api: Client, db: Sessions) -> None:
    first, second = run(), run()
    job = the_job(api)
    assert (job["name"], job["spec"]) == ("reproduce: ours seed 0", SPEC.model_dump(mode="json"))
    fail(db, job["id"], "diverged")
    wanted = Outcome(None, [], {"code": "diverged", "message": "it went wrong"}, {"job": job["id"]})
    assert first.result(timeout=30) == second.result(timeout=30) == run().result(timeout=30) == wanted
    assert len(list(api.jobs())) == 1


def test_a_job_that_failed_by_chance_is_submitted_anew_the_next_time(run: Run, api: Client, db: Sessions) -> None:
    for count in range(2):
        under_way = run()
        job = the_job(api, after=count)
        fail(db, job["id"], "worker_lost")
        with pytest.raises(RunFailed, match=f"job {job['id']}: it went wrong"):
            under_way.result(timeout=30)
    under_way = run()
    api.move(the_job(api, after=2)["id"], "cancel")
    with pytest.raises(RunFailed, match="it was cancelled"):
        under_way.result(timeout=30)


def test_stopping_leaves_the_job_to_the_service(run: Run, runner: JobRunner, api: Client) -> None:
    under_way = run()
    job = the_job(api)
    runner.stop()
    with pytest.raises(RunFailed, match="stopped"):
        under_way.result(timeout=30)
    assert api.job(job["id"])["status"] == "queued"


def test_a_service_that_is_not_there_is_told() -> None:
    with pytest.raises(RunFailed, match=r"no service answers at http://127\.0\.0\.1:9"):
        JobRunner("http://127.0.0.1:9", None)(SPEC, "ours")


def test_a_job_that_is_gone_is_not_waited_for(run: Run, api: Client, db: Sessions) -> None:
    waiting = run()
    job = the_job(api)["id"]
    with db.begin() as session:
        session.execute(text("DELETE FROM jobs"))
    with pytest.raises(RunFailed, match=f"there is no job '{job}'"):
        waiting.result(timeout=20)
