"""Everything that the OpenAPI document allows, and what it forbids, sent by Schemathesis to a real process."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from store.queries import request_cancel
from store.statuses import UNFINISHED
from store.tables import Job
from tests.faults.attacks import Target, attacked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

KEY = "a-key-for-schemathesis"

# What a schema cannot say: that a file is a picture of so many pixels, that a text is an architecture which
# fits its data set and the memory. Such requests are valid by the document and a 422 by the facts.
_CONFIGURATION = "".join(
    f"""
[[operations]]
include-operation-id = "{operation}"
checks.positive_data_acceptance.enabled = false
"""
    for operation in ("predict", "submit_job")
)


@contextmanager
def ending_jobs(target: Target) -> Iterator[None]:
    """No worker trains what is submitted here: each job is cancelled soon, so that event streams end."""
    done = threading.Event()

    def cancel() -> None:
        while not done.wait(0.2):
            with target.sessions.begin() as session:
                for job in session.scalars(select(Job).where(Job.status.in_(UNFINISHED))):
                    request_cancel(session, job.id, owner=job.owner)

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def examine(target: Target, folder: Path, *options: str) -> dict[str, Any]:
    """Run every check in every phase, and give the report."""
    configuration, report = folder / "schemathesis.toml", folder / "report.json"
    configuration.write_text(_CONFIGURATION)
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "--config-file", str(configuration), "run", f"{target.url}/openapi.json"]
    # All checks are on by default; `--checks all` would overrule the exceptions above.
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"]
    command += ["--seed", "1", "--generation-deterministic", "--no-shrink"]
    command += ["--request-timeout", "30", "--report", "json", "--report-json-path", str(report), "--no-color"]
    with ending_jobs(target):
        ran = subprocess.run([*command, *options], capture_output=True, text=True, cwd=folder, timeout=380, check=False)
    assert ran.returncode == 0, ran.stdout[-12000:] + ran.stderr[-2000:]
    document = httpx.get(f"{target.url}/openapi.json", timeout=30).json()
    operations = sum(len(methods) for methods in document["paths"].values())
    assert f"Selected: {operations}/{operations}\n  Tested: {operations}\n" in ran.stdout  # none is left out
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_no_request_gets_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    with attacked(tmp_path) as target:
        target.publish()
        examine(target, tmp_path, "--max-examples", "10")
        require_no_failure(target)


def test_nor_with_a_key(tmp_path: Path) -> None:
    with attacked(tmp_path, INTFF_API_KEYS=KEY, INTFF_RATE_LIMIT_PER_SECOND="0") as target:
        target.publish(hashlib.sha256(KEY.encode()).hexdigest())
        examine(target, tmp_path, "--max-examples", "10", "--header", f"Authorization: Bearer {KEY}")
        require_no_failure(target)
        assert KEY not in target.log.read_text()


def require_no_failure(target: Target) -> None:
    """The log has a line for each request, and none of a 5xx."""
    log = target.log.read_text()
    assert log.count("status=4") > 100
    assert re.search(r"\bstatus=5\d\d\b", log) is None
    assert "request_failed" not in log
