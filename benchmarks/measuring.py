"""Shared code of the benchmarks: servers as child processes, medians, and a description of the machine."""

from __future__ import annotations

import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from service.address import listen


class Server:
    """A server under measurement, which can be suspended while another one is measured."""

    def __init__(  # noqa: PLR0917 -- one server's whole description
        self,
        name: str,
        command: Sequence[str],
        port: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        handles: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                pass_fds=handles,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of its first process."""
        return self._process.pid

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until it answers; accepting connections is not enough."""
        until = time.monotonic() + seconds
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if connection.recv(1):
                    return
            if self._process.poll() is not None or time.monotonic() > until:
                msg = f"{self.name} did not start:\n{self._log.read_text()[-2000:]}"
                raise RuntimeError(msg)
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far."""
        first = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    def pause(self) -> None:
        """Suspend it, so that it uses no CPU time."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and its child processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def uvicorn(name: str, app: str, log: Path, environment: Mapping[str, str] | None = None, *more: str) -> Server:
    """Start one uvicorn process, with the same options as `intff serve` uses for its API."""
    with listen("127.0.0.1", 0) as opened:
        handle = opened.fileno()
        command = [sys.executable, "-m", "uvicorn", app, "--timeout-graceful-shutdown", "3", "--fd", str(handle), *more]
        return Server(name, command, opened.getsockname()[1], log, environment, (handle,))


def free_port() -> int:
    """A port that is currently free."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Wait for the servers, suspend all of them, and stop them at the end."""
    try:
        for server in servers:
            server.wait()
        time.sleep(2)  # excludes work that servers do just after their start
        for server in servers:
            server.pause()
        yield
    finally:
        for server in servers:
            server.stop()


def machine() -> str:
    """The machine, and its load average."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {load}"


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
