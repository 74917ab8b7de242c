"""What the benchmarks share: servers as child processes, medians, and where it was measured."""

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
    """A server under measurement, stopped in its tracks while another one is measured."""

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
        """Of its first process."""
        return self._process.pid

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until it answers; its socket takes connections before that."""
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
        """Processor time of its processes so far."""
        first = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    def pause(self) -> None:
        """Let it use no processor at all."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def uvicorn(name: str, app: str, log: Path, environment: Mapping[str, str] | None = None, *more: str) -> Server:
    """One uvicorn process, with the command line by which `intff serve` starts its API."""
    with listen("127.0.0.1", 0) as opened:
        handle = opened.fileno()
        command = [sys.executable, "-m", "uvicorn", app, "--timeout-graceful-shutdown", "3", "--fd", str(handle), *more]
        return Server(name, command, opened.getsockname()[1], log, environment, (handle,))


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Wait for the servers, hold all of them still, and stop them at the end."""
    try:
        for server in servers:
            server.wait()
        time.sleep(2)  # what a server does after its start is not measured
        for server in servers:
            server.pause()
        yield
    finally:
        for server in servers:
            server.stop()


def machine() -> str:
    """Where this is measured, and how busy it was."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {load}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
