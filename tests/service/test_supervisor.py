"""`intff serve` runs the whole service from nothing, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import text

from service.supervisor import Supervisor
from service.valkey import socket_folder
from store.database import connect, upgrade
from store.settings import Settings

SHORT_JOB = {"spec": {"dataset": "digits", "architecture": "64,(32)", "training": {"epochs": 2}}}
LONG_JOB = {"spec": {"dataset": "digits", "architecture": "64,(32)", "training": {"epochs": 1200}}}


class Served:
    """A supervisor in a home of its own, started as people start it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.messages = home.parent / "stderr.txt"
        self._supervisor: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> str:
        """Start it and wait for the line with its URL."""
        with self.messages.open("wb") as messages:
            supervisor = subprocess.Popen(serve(self.home, *options), env=environment(), stderr=messages)
        self._supervisor = supervisor
        wait_until(lambda: "serves at" in self.messages.read_text() or supervisor.poll(), "the service is ready")
        assert supervisor.poll() is None, self.messages.read_text()
        return next(word for word in self.messages.read_text().split() if word.startswith("http://"))

    @property
    def process(self) -> psutil.Process:
        assert self._supervisor is not None
        return psutil.Process(self._supervisor.pid)

    def child(self, word: str) -> psutil.Process:
        commands = {child: " ".join(child.cmdline()) for child in self.process.children()}
        (found,) = [child for child, command in commands.items() if word in command]
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self._supervisor is not None
        self._supervisor.send_signal(number)
        return self._supervisor.wait(40)

    def close(self) -> None:
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.terminate()
            self._supervisor.wait(40)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    service = Served(tmp_path / "home")
    yield service
    service.close()


def environment() -> dict[str, str]:
    """Without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}


def serve(home: Path, *options: str) -> list[str]:
    return [str(Path(sys.executable).with_name("intff")), "serve", "--home", str(home), "--port", "0", *options]


def refused(home: Path, *options: str) -> str:
    """What it says when it does not start."""
    command = serve(home, *options)
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return ended.stderr


def wait_until(happened: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)
    return answer


def submit(url: str, job: dict[str, Any]) -> str:
    answer = httpx.post(f"{url}/v1/jobs", json=job)
    assert answer.status_code == 202
    return f"{url}{answer.headers['Location']}"


def succeeded(location: str) -> bool:
    job = httpx.get(location, timeout=20).json()
    assert job["status"] in {"queued", "running", "succeeded"}, job
    return bool(job["status"] == "succeeded")


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_it_trains_a_job_and_ends_without_a_trace_but_its_home(served: Served) -> None:
    url = served.start()
    location = submit(url, SHORT_JOB)
    wait_until(lambda: succeeded(location), "the job has succeeded")
    family = served.process.children(recursive=True)
    assert len(family) >= 4  # broker, API, worker and the worker's own process

    assert served.stop() == 0

    assert psutil.wait_procs(family, timeout=10)[1] == []  # the last one waits for init to take note of its end
    assert not socket_folder(served.home).exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.slow
def test_a_job_that_was_running_when_it_stopped_goes_on_at_the_next_start(served: Served) -> None:
    url = served.start()
    location = submit(url, LONG_JOB)
    wait_until(lambda: httpx.get(location).json()["latest_metrics"], "the job has finished an epoch")

    assert served.stop(signal.SIGTERM) == 0
    url = served.start()
    location = url + httpx.URL(location).path
    wait_until(lambda: succeeded(location), "the job has succeeded")

    assert httpx.get(location).json()["attempt"] == 2


@pytest.mark.slow
def test_a_part_that_dies_is_started_again(served: Served) -> None:
    url = served.start()
    for child in [served.child(word) for word in ("uvicorn", "celery", "valkey")]:
        child.kill()
    # Told by what it says, for a request may wait until its part is back and never see that it was away.
    ends = [f"{name} exited with status -9" for name in ("api", "worker-1", "broker")]
    wait_until(lambda: all(end in served.messages.read_text() for end in ends), "the deaths are noticed")

    wait_until(lambda: is_ready(url), "the parts are back")
    location = submit(url, SHORT_JOB)
    wait_until(lambda: succeeded(location), "the job has succeeded")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_it_goes_on_when_nobody_reads_what_it_says_and_its_terminal_is_gone(tmp_path: Path) -> None:
    """As in `nohup intff serve 2>&1 | tee log &` when the shell and tee have ended."""
    home = tmp_path / "home"
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited
    try:
        supervisor = subprocess.Popen(serve(home), env=environment(), stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, hangup)
    with supervisor:
        assert supervisor.stderr is not None
        line = next(line for line in supervisor.stderr if "serves at" in line)
        url = next(word for word in line.split() if word.startswith("http://"))
        supervisor.stderr.close()
        supervisor.send_signal(signal.SIGHUP)
        (worker,) = [child for child in psutil.Process(supervisor.pid).children() if "worker" in child.cmdline()]
        worker.kill()
        wait_until(lambda: not worker.is_running(), "the worker is gone")
        job = submit(url, SHORT_JOB)
        wait_until(lambda: succeeded(job), "its successor has trained")
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(40) == 0


@pytest.mark.slow
def test_its_parts_end_when_it_is_killed_and_the_next_start_waits_for_them(served: Served) -> None:
    served.start()
    family = served.process.children(recursive=True)

    assert served.stop(signal.SIGKILL) == -9
    url = served.start()

    assert psutil.wait_procs(family, timeout=10)[1] == []  # the last one waits for init to take note of its end
    assert is_ready(url)


@pytest.mark.slow
def test_a_second_one_in_the_same_home_names_the_first(served: Served) -> None:
    url = served.start()

    said = refused(served.home)

    assert f"process {served.process.pid} at {url}" in said


def test_an_address_for_everybody_needs_keys(tmp_path: Path) -> None:
    said = refused(tmp_path / "home", "--host", "0.0.0.0")

    assert "intff keys create" in said
    assert "INTFF_API_KEYS" in said


def test_a_database_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.db").write_bytes(b"not a database, whatever it is")
    engine = connect(f"sqlite:///{tmp_path / 'newer.db'}")
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for url, says in (
        ("postgresql://somebody:secret@127.0.0.1:1/intff", "cannot be used: connection"),
        (f"sqlite:///{tmp_path / 'file.db'}", "cannot be used: file is not a database"),
        (f"sqlite:///{tmp_path / 'newer.db'}", "was created by another version"),
    ):
        monkeypatch.setattr(f"{__name__}.environment", lambda url=url: {**os.environ, "INTFF_DATABASE_URL": url})
        said = refused(tmp_path / "home")
        assert says in said
        assert "secret" not in said
        assert len(said.splitlines()) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path / "home", "--port", str(port))
    assert said.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")
    assert "--port" in said


def test_the_usual_port_gives_way_when_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTFF_PORT", raising=False)
    settings = Settings(home=tmp_path)
    with ExitStack() as stack:
        with suppress(OSError):  # another program has it already
            stack.enter_context(socket.create_server(("127.0.0.1", settings.port)))
        server = stack.enter_context(Supervisor(settings)._listen())
        assert server.getsockname()[1] not in {0, settings.port}
