"""One supervisor per home folder: a lock that the kernel releases only when the last process of a run is gone."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from intff.errors import IntffError

LOCK = "serve.lock"
"""The lock file in the home folder."""


class HomeInUse(IntffError):
    """Another `intff serve` uses this home folder."""

    code = "home_in_use"


@dataclass(frozen=True)
class Holder:
    """Who holds a home folder's lock, as far as is known."""

    pid: int | None = None
    url: str | None = None
    """Where it serves, once it listens."""


class HomeLock:
    """The lock on a home folder, with a note of who holds it.

    Children inherit the file descriptor, and with it the lock. So after a supervisor is killed, the
    home stays locked until its children have stopped too, and two brokers never write to the same
    append-only file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.handle = -1

    def acquire(self, wait_seconds: float = 20.0) -> None:
        """Take the lock, waiting for the children of a run whose supervisor is gone.

        Raises:
            HomeInUse: a live supervisor holds it, or the children of a dead one did not stop.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(handle):
            holder = holder_of(self._path)
            if holder.pid is not None and _is_alive(holder.pid):
                os.close(handle)
                where = f" at {holder.url}" if holder.url else ""
                message = (
                    f"intff serve already runs in {self._path.parent} (process {holder.pid}{where}); "
                    "stop it, or use another --home"
                )
                raise HomeInUse(message)
            if time.monotonic() > deadline:
                os.close(handle)
                message = (
                    f"processes of an earlier intff serve still run in {self._path.parent}; "
                    "stop them, or use another --home"
                )
                raise HomeInUse(message)
            time.sleep(0.2)
        self.handle = handle
        self.note(None)

    def note(self, url: str | None) -> None:
        """Record who holds the lock and where it serves."""
        content = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, content, 0)

    def release(self) -> None:
        """Release the lock."""
        if self.handle >= 0:
            os.ftruncate(self.handle, 0)
            os.close(self.handle)
            self.handle = -1


def holder_of(path: Path) -> Holder:
    """The holder recorded in the lock file; one that has only just started is not recorded yet."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Holder()


def serving_at(path: Path) -> str | None:
    """Where the supervisor that holds this lock serves; None if nobody holds it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _try_lock(handle) else holder_of(path).url
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
