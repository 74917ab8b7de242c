"""The embedded service: a private broker, workers and the API as children, kept alive and stopped together."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from sqlalchemy.exc import DBAPIError

from intff.errors import IntffError
from service.address import listen, url_of
from service.children import Child
from service.connections import SERVER_OPTIONS
from service.lock import LOCK, HomeLock
from service.valkey import SOCKET, answers, find_server, make_private, server_command, socket_folder
from store.database import connect, sessions
from store.queries import known_keys
from store.schema import upgrade
from store.settings import Settings

# A worker hands its job back within about two seconds; a checkpoint being written may take longer.
STOP_SECONDS = {"api": 8.0, "worker": 20.0, "broker": 10.0}
READY_SECONDS = 60.0
# Consecutive deaths, before the service was ever ready, after which restarting is pointless.
HOPELESS = 3


class StartFailed(IntffError):
    """A part of the service did not start."""

    code = "start_failed"


class Supervisor:
    """Runs the embedded service until it is told to stop."""

    def __init__(self, settings: Settings, workers: int = 1) -> None:
        self._settings = settings
        self._workers = workers
        self._logs = settings.home / "logs"
        self._children: list[Child] = []
        self._lock = HomeLock(settings.home / LOCK)
        self._told_to_stop = 0

    def run(self) -> None:
        """Start everything, print where it serves, and keep it running until SIGINT or SIGTERM.

        Raises:
            SettingsError: the address is reachable from other machines, and there are no API keys.
            HomeInUse: another supervisor uses this home.
            BrokerMissing: no Valkey or Redis server is installed for the private broker.
            StartFailed: a part did not start; the message includes the end of its log.
            ListenFailed: the address is in use, or does not belong to this machine.
        """
        self._lock.acquire()
        try:
            self._prepare_database()
            with self._listen() as server, self._signals():
                url = url_of(server)
                self._lock.note(url)
                try:
                    self._start(server)
                    self._wait(lambda: _is_ready(url), "the API")
                    self._announce(url)
                    while not self._told_to_stop:
                        self._tend()
                        time.sleep(0.2)
                finally:
                    server.close()  # new connections are refused, not left waiting
                    self._stop()
        finally:
            self._lock.release()

    def _listen(self) -> socket.socket:
        """Open the configured port; if none was configured and the default is in use, open a free one."""
        wanted = self._settings.port
        server = listen(self._settings.host, wanted, or_any="port" not in self._settings.model_fields_set)
        if wanted not in {0, server.getsockname()[1]}:
            _say(f"port {wanted} is in use by another program; using a free one instead")
        return server

    def _start(self, server: socket.socket) -> None:
        environment = self._environment()
        if self._settings.broker_url is None:
            environment["INTFF_BROKER_URL"] = self._start_broker()
        celery = [sys.executable, "-m", "celery", "--quiet", "--app", "worker.app", "worker"]
        for number in range(1, self._workers + 1):
            self._add(f"worker-{number}", [*celery, "--hostname", f"embedded-{number}@%h"], environment)
        uvicorn = [sys.executable, "-m", "uvicorn", "service.app:app", *SERVER_OPTIONS]
        uvicorn += ["--timeout-graceful-shutdown", "3", "--fd", str(server.fileno())]
        self._add("api", uvicorn, environment, server.fileno())

    def _prepare_database(self) -> None:
        """Bring the tables up to date, and refuse a non-loopback address while there are no keys."""
        engine = connect(self._settings.database_url)
        try:
            upgrade(engine)
            with sessions(engine)() as session:
                self._settings.require_safe_bind(has_keys=known_keys(session).has_any)
        except DBAPIError as error:
            why = str(error.orig).strip().splitlines()[0]
            message = f"the database {engine.url.render_as_string()} cannot be used: {why}"
            raise StartFailed(message) from error
        finally:
            engine.dispose()

    def _start_broker(self) -> str:
        data = self._settings.home / "broker"
        data.mkdir(parents=True, exist_ok=True)
        folder = socket_folder(self._settings.home)
        make_private(folder)
        path = folder / SOCKET
        self._add("broker", server_command(find_server(), path, data), dict(os.environ))
        what = f"the private broker (its messages, in {data}, can be deleted without losing a job)"
        self._wait(lambda: answers(path), what)
        return f"redis+socket://{path}"

    def _environment(self) -> dict[str, str]:
        """The children's environment: the variables of this process, and the options of the command line."""
        home = self._settings.home.absolute()
        chosen = {"INTFF_HOME": str(home), "INTFF_HOST": self._settings.host, "INTFF_PORT": str(self._settings.port)}
        return {**os.environ, **chosen, "PYTHONUNBUFFERED": "1"}

    def _add(self, name: str, command: list[str], environment: dict[str, str], *handles: int) -> None:
        log = self._logs / f"{name}.log"
        child = Child(name, command, environment, log, (self._lock.handle, *handles))
        child.start()
        self._children.append(child)

    def _wait(self, is_there: Callable[[], bool], what: str) -> None:
        """Wait for a part to answer; gives up early when told to stop."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._told_to_stop and not is_there():
            self._tend()
            for child in self._children:
                if child.deaths >= HOPELESS:
                    message = f"{what} does not start: {child.name} keeps exiting; its log says\n{child.last_words()}"
                    raise StartFailed(message)
            if time.monotonic() > deadline:
                words = self._children[-1].last_words()
                message = f"{what} did not answer within {READY_SECONDS:.0f} s; its log says\n{words}"
                raise StartFailed(message)
            time.sleep(0.05)

    def _tend(self) -> None:
        """Restart children that died, with a growing pause, and rotate their logs."""
        for child in self._children:
            status = child.died()
            if status is not None:
                _say(f"{child.name} exited with status {status}; restarting it (log: {self._logs / child.name}.log)")
            child.start_again()
            child.shorten_log()

    def _stop(self) -> None:
        """Stop the API first, so that nothing new arrives, then the workers, and the broker last."""
        if self._told_to_stop:
            _say("stopping; a running job continues at the next start (Ctrl-C again stops at once)")
        for kind in ("api", "worker", "broker"):
            group = [child for child in self._children if child.name.startswith(kind)]
            for child in group:
                child.ask_to_end()
            deadline = time.monotonic() + STOP_SECONDS[kind]
            for child in group:
                if not child.wait(deadline, lambda: self._told_to_stop > 1):
                    _say(f"{child.name} did not stop in time and was killed")
        self._children.clear()
        if self._settings.broker_url is None:
            shutil.rmtree(socket_folder(self._settings.home), ignore_errors=True)

    def _announce(self, url: str) -> None:
        if not self._told_to_stop:
            _say(f"IntFF serves at {url} (its API: {url}/docs, logs: {self._logs}); Ctrl-C stops it")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count the signals to stop: the first stops cleanly, a second one at once."""

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self._told_to_stop += 1

        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup, to outlive the terminal
            heeded.append(signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2.0) as answer:  # noqa: S310 - our own http address
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's own number
    except OSError:  # includes urllib's errors: not listening yet, or a 503
        return False


def _say(message: str) -> None:
    with suppress(OSError):  # the reader may be gone, or the disk full; that is no reason to stop serving
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - this command's own output
