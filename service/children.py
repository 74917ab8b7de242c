"""A child process of the supervisor: started, watched, restarted when it dies, and stopped."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LOG_BYTES = 8 * 1024 * 1024
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
# A child that lived this long was healthy: its next death counts as the first.
SETTLED_SECONDS = 30.0

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """One process in its own process group, so that Ctrl-C in a terminal reaches only the supervisor."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, handles: Sequence[int] = ()
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log
        self._handles = tuple(handles)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._delay = FIRST_DELAY
        self._again_at = 0.0
        self._log_start = 0
        self.deaths = 0

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; its output goes to its log file."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self.shorten_log()
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command lines
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=self._handles,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor starts children from its only thread
            )
        self._started = time.monotonic()

    def shorten_log(self) -> None:
        """Rotate a long log by copying and truncating it; a running process keeps writing to the same file."""
        with suppress(OSError):  # there is no log yet, or no disk space for a copy
            if self._log.stat().st_size > LOG_BYTES:
                shutil.copyfile(self._log, self._log.with_suffix(".log.1"))
                os.truncate(self._log, 0)
                self._log_start = 0

    def died(self) -> int | None:
        """The exit status, once, if the process has ended by itself since the last call; else None."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        self._kill_group()
        self._process = None
        self.deaths += 1
        if time.monotonic() - self._started > SETTLED_SECONDS:
            self._delay, self.deaths = FIRST_DELAY, 1
        self._pause()
        return status

    def _pause(self) -> None:
        self._again_at = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    def start_again(self) -> bool:
        """Restart the process if it is gone and its back-off is over; whether it was started."""
        if self._process is not None or time.monotonic() < self._again_at:
            return False
        try:
            self.start()
        except (OSError, subprocess.SubprocessError):  # no room for another process: may be temporary
            self._pause()
            return False
        return True

    def ask_to_end(self) -> None:
        """Ask the process to shut down cleanly."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, deadline: float, is_urgent: Callable[[], bool]) -> bool:
        """Wait for the process to end, and kill it at the deadline or when urgent; whether it ended by itself."""
        if self._process is None:
            return True
        while self._process.poll() is None and time.monotonic() < deadline and not is_urgent():
            time.sleep(0.05)
        ended = self._process.poll() is not None
        self._kill_group()
        self._process.wait()
        self._process = None
        return ended

    def last_words(self, lines: int = 12) -> str:
        """The end of what this process has logged."""
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_start)
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _kill_group(self) -> None:
        """Leave no grandchild behind: the group's id is the child's, and is not reused while any member lives."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            return


def _die_with_parent() -> None:
    """Have the kernel send this child a SIGTERM when the supervisor is killed (Linux only)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
