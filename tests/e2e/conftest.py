"""The whole service as people start it: embedded by one command, or distributed over processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
READY_SECONDS = 60


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[str]:
    """`intff serve` in a home of its own; the address of its API."""
    home, port = tmp_path / "home", free_port()
    command = [str(BIN / "intff"), "serve", "--home", str(home), "--port", str(port)]
    with running(command, tmp_path / "serve.log", INTFF_WORKER_THREADS="1"):
        yield _ready(port, tmp_path / "serve.log")
    for log in sorted((home / "logs").glob("*.log")):
        sys.stdout.write(f"--- {log.name}\n{log.read_text()[-3000:]}\n")  # seen when the test fails


@pytest.fixture
def distributed(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[str]:
    """The API and two workers, each a process of its own; the address of the API."""
    port = free_port()
    settings = {
        "INTFF_HOME": str(tmp_path / "home"),
        "INTFF_DATABASE_URL": database_url,
        "INTFF_BROKER_URL": broker_url,
        "INTFF_ARTIFACTS_URL": str(tmp_path / "artifacts"),
        "INTFF_WORKER_THREADS": "1",
    }
    celery = [str(BIN / "celery"), "--quiet", "--app", "worker.app", "worker", "--hostname"]
    api = [str(BIN / "uvicorn"), "service.app:app", "--port", str(port)]
    with ExitStack() as stack:
        stack.enter_context(running(api, tmp_path / "api.log", **settings))
        url = _ready(port, tmp_path / "api.log")
        for number in (1, 2):
            log = tmp_path / f"worker-{number}.log"
            stack.enter_context(running([*celery, f"worker-{number}@%h"], log, **settings))
        yield url


@contextmanager
def running(command: list[str], log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program with no INTFF_ variables but these, told to stop at the end."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**rest, **settings}, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=40)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(port: int, log: Path) -> str:
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        else:
            return url


@pytest.fixture(autouse=True)
def _require_curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
