"""`GET /v1/jobs` and other reads of jobs, with 100,000 jobs and 5 million epochs in PostgreSQL.

Run with `python -m benchmarks.job_listing`. It creates and fills a temporary database on the server given by
INTFF_TEST_DATABASE_URL, and drops it at the end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from benchmarks.databases import new_database, plain
from benchmarks.measuring import machine, quantile, running, uvicorn
from intff.spec import read_spec
from store import queries
from store.database import connect, read_sessions
from store.schema import upgrade
from store.statuses import JobStatus
from store.tables import NO_OWNER

_ID = "'job_' || lpad(to_hex(i), 26, '0')"  # in the real format; the newest job has the highest id

# Half of the jobs have no owner; two keys own a quarter each.
_JOBS = f"""
INSERT INTO jobs (id, owner, name, metadata, spec, queue, priority, request_sha256, status, cancel_requested,
    pause_requested, has_files, revision, attempt, losses, publishes, publish_after, lease_expires_at,
    created_at, started_at, finished_at, progress, latest_metrics, result)
SELECT {_ID}, CASE mod(i, 4) WHEN 0 THEN repeat('a', 64) WHEN 1 THEN repeat('b', 64) ELSE '' END,
    'sweep-' || i / 100, '{{}}', CAST(%(spec)s AS jsonb), 'cpu', 0, repeat('0', 64),
    CASE WHEN i > %(jobs)s::int - 20 THEN 'queued' WHEN i > %(jobs)s::int - 30 THEN 'running'
         WHEN mod(i, 50) = 3 THEN 'failed' ELSE 'succeeded' END,
    false, false, false, 60, 1, 0, 1, now() + interval '1 hour', now() + interval '1 hour',
    now() - (%(jobs)s::int - i) * interval '1 minute', now(), now(),
    CAST('{{"epoch": 50, "epochs": 50, "fraction": 1.0, "eta_seconds": 0.0}}' AS jsonb), CAST(%(metrics)s AS jsonb),
    CAST('{{"test_accuracy": 0.98, "train_seconds": 31.2}}' AS jsonb)
FROM generate_series(1, %(jobs)s::int) AS i
"""
_EPOCHS = f"""
INSERT INTO epoch_metrics (job_id, epoch, attempt, metrics, created_at)
SELECT {_ID}, epoch, 1, CAST(%(metrics)s AS jsonb) || jsonb_build_object('epoch', epoch), now()
FROM generate_series(1, %(jobs)s::int) AS i, generate_series(1, %(epochs)s::int) AS epoch
"""
_METRICS = {
    "epoch": 50, "seconds": 1.0123456789, "loss": 0.123456789012, "unit_losses": [0.123456789012, 0.0987654321098],
    "unit_goodness_positive": [2.3456789012345, 2.9876543210987], "unit_goodness_negative": [0.1234567890123] * 2,
    "validation_accuracy": 0.9812, "learning_rate": 0.00123456789, "samples_per_second": 54321.98765,
}  # fmt: skip


def main() -> None:
    """Fill the database, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=50, help="number of epochs of each job")
    parser.add_argument("--requests", type=int, default=500, help="number of requests of each kind")
    options = parser.parse_args()
    with new_database() as url:
        engine = connect(url)
        upgrade(engine)
        _fill(url, options.jobs, options.epochs)
        _print_plans(engine, options.jobs)
        _measure_queries(engine, options.jobs, options.requests)
        engine.dispose()
        _measure_requests(url, options.jobs, options.requests)


def _fill(url: str, jobs: int, epochs: int) -> None:
    began = time.perf_counter()
    given = {"jobs": jobs, "epochs": epochs, "metrics": json.dumps(_METRICS), "spec": read_spec({}).model_dump_json()}
    # Not with the store's own connections, whose statement timeout is too short for this.
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_JOBS.encode(), given)
        connection.execute(_EPOCHS.encode(), given)
        connection.execute("VACUUM ANALYZE")
        found = connection.execute(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM epoch_metrics), "
            "pg_size_pretty(pg_database_size(current_database()))"
        ).fetchone()
    assert found is not None
    print(machine())
    print(f"{found[0]:,} jobs, {found[1]:,} epochs, {found[2]}, filled in {time.perf_counter() - began:.0f} s")


def _id(number: int) -> str:
    return f"job_{number:026x}"


def _reads(jobs: int) -> dict[str, Callable[[Session], Any]]:
    watched = [_id(number) for number in range(jobs - 99, jobs + 1)]
    return {
        "list_jobs": lambda session: queries.list_jobs(session, owner=NO_OWNER),
        "list_jobs, status failed": lambda session: queries.list_jobs(session, owner=NO_OWNER, status=JobStatus.FAILED),
        "list_jobs, by name": lambda session: queries.list_jobs(session, owner=NO_OWNER, name=f"sweep-{jobs // 200}"),
        "list_jobs, from the middle": lambda session: queries.list_jobs(
            session, owner=NO_OWNER, after=_id(jobs // 2 + 2)
        ),
        "list_metrics": lambda session: queries.list_metrics(session, _id(jobs // 2 + 2), owner=NO_OWNER),
        "revisions of 100 watched jobs": lambda session: queries.revisions(session, watched),
    }


def _print_plans(engine: Engine, jobs: int) -> None:
    """Print PostgreSQL's plan for each query exactly as it is sent."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        sent.append((statement, parameters))

    for name, read in _reads(jobs).items():
        event.listen(engine, "before_cursor_execute", note)
        with read_sessions(engine)() as session:
            read(session)
        event.remove(engine, "before_cursor_execute", note)
        statement, parameters = sent[-1]
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", parameters)
            print(f"\n{name}")
            for (line,) in plan:
                print(f"    {line[:150]}")


def _measure_queries(engine: Engine, jobs: int, times: int) -> None:
    print(f"\nqueries, {times} times each{'p50 ms':>30}{'p99 ms':>9}")
    with read_sessions(engine)() as session:
        for name, read in _reads(jobs).items():
            seconds = []
            for _ in range(times):
                began = time.perf_counter()
                read(session)
                session.rollback()
                session.expunge_all()
                seconds.append(time.perf_counter() - began)
            _print_row(name, seconds)


def _measure_requests(url: str, jobs: int, times: int) -> None:
    paths = {
        "GET /v1/jobs": "/v1/jobs",
        "GET /v1/jobs?limit=200": "/v1/jobs?limit=200",
        "GET /v1/jobs?status=failed": "/v1/jobs?status=failed",
        "GET /v1/jobs?status=running": "/v1/jobs?status=running",
        "GET /v1/jobs?name=...": f"/v1/jobs?name=sweep-{jobs // 200}",
        "GET /v1/jobs?after=(the middle)": f"/v1/jobs?after={_id(jobs // 2 + 2)}",
        "GET /v1/jobs/{id}": f"/v1/jobs/{_id(jobs // 2 + 2)}",
        "GET /v1/jobs/{id}/metrics": f"/v1/jobs/{_id(jobs // 2 + 2)}/metrics",
        "GET /v1/models (none there)": "/v1/models",
        "GET /metrics": "/metrics",
    }
    with TemporaryDirectory() as home:
        environment = {"INTFF_DATABASE_URL": url, "INTFF_HOME": home, "INTFF_SWEEP_SECONDS": "3600"}
        server = uvicorn("intff", "service.app:app", Path(home) / "log", environment)
        with running([server]), httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            server.go_on()
            print(f"\nrequests, one after the other, {times} times each{'p50 ms':>9}{'p99 ms':>9}{'bytes':>9}")
            for name, path in paths.items():
                seconds, size = [], 0
                for number in range(times + 20):
                    began = time.perf_counter()
                    answer = client.get(path)
                    if number >= 20:  # noqa: PLR2004 -- the first requests prepare statements and open connections
                        seconds.append(time.perf_counter() - began)
                    answer.raise_for_status()
                    size = len(answer.content)
                _print_row(name, seconds, size)
    print(machine())


def _print_row(name: str, seconds: list[float], size: int | None = None) -> None:
    shown = "" if size is None else f"{size:9,}"
    print(f"    {name:44}{quantile(seconds, 0.5) * 1e3:9.2f}{quantile(seconds, 0.99) * 1e3:9.2f}{shown}")


if __name__ == "__main__":
    main()
