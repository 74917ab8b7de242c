"""What the faults start from, and the table of faults survived at the end of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.installation import Installation, spec
from tests.faults.servers import PrivatePostgresql, PrivateValkey, postgresql_programs

Survived = Callable[..., None]
References = Callable[..., str]

_FAULT = "fault"


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Note a fault for the table: what it was, how often it was produced, and a figure worth knowing."""

    def note(fault: str, times: int = 1, figure: str = "") -> None:
        record_property(_FAULT, [fault, times, figure])

    return note


@pytest.fixture
def valkey() -> Iterator[PrivateValkey]:
    """A broker that a test may do anything to."""
    server = PrivateValkey()
    server.start()
    yield server
    server.close()


@pytest.fixture
def postgresql() -> Iterator[PrivatePostgresql]:
    """A database server that a test may do anything to."""
    try:
        postgresql_programs()
    except FileNotFoundError as missing:
        if os.environ.get("INTFF_TEST_REQUIRE_SERVICES", "") not in {"", "0"}:
            pytest.fail(f"PostgreSQL's server is required: {missing}", pytrace=False)
        pytest.skip(f"needs PostgreSQL's server programs: {missing}")
    server = PrivatePostgresql()
    server.start()
    yield server
    server.close()


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings of a test's installation beyond the usual ones; tests override it."""
    return {}


@pytest.fixture
def installation(
    tmp_path: Path, database_url: str, valkey: PrivateValkey, settings: dict[str, str]
) -> Iterator[Installation]:
    """No process yet: a test starts those that it needs."""
    made = Installation(tmp_path / "home", database_url, valkey.url, **settings)
    yield made
    made.close()


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> References:
    """The SHA-256 of the weights of a run that nothing interrupted, made by the library's own command."""
    known: dict[str, str] = {}

    def train(epochs: int, **fields: Any) -> str:
        wanted = json.dumps(spec(epochs, **fields), sort_keys=True)
        if wanted not in known:
            folder = tmp_path_factory.mktemp("uninterrupted")
            (folder / "spec.json").write_text(wanted)
            command = [str(Path(sys.executable).with_name("intff")), "train", "--spec", str(folder / "spec.json")]
            command += ["--out", str(folder / "model"), "--json"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            subprocess.run(command, check=True, capture_output=True, env=environment, timeout=200)
            manifest = json.loads((folder / "model" / "manifest.json").read_text())
            known[wanted] = manifest["files"]["weights.safetensors"]["sha256"]
        return known[wanted]

    return train


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults, also of a run that was spread over processes."""
    rows = []
    for result in ("passed", "failed"):
        for report in terminalreporter.getreports(result):
            found = [value for name, value in report.user_properties if name == _FAULT]
            if report.when == "call":
                rows += [(fault, times, result, report.duration, figure) for fault, times, figure in found]
                if result == "failed" and "faults" in report.keywords:
                    rows.append((report.nodeid.rpartition("::")[2], 0, result, report.duration, ""))
    if not rows:
        return
    terminalreporter.section("faults survived")
    width = max(len(row[0]) for row in rows)
    terminalreporter.write_line(f"{'fault':{width}}  times  result  seconds")
    for fault, times, result, seconds, figure in sorted(rows):
        terminalreporter.write_line(f"{fault:{width}}  {times:5d}  {result:6}  {seconds:7.1f}  {figure}".rstrip())
    produced = sum(times for _, times, *_ in rows)
    terminalreporter.write_line(f"{len(rows)} kinds of fault, produced {produced} times")
