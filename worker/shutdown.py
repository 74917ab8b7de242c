"""How a worker that is told to stop tells the attempt it runs: a signal, from the parent process to the pool's child.

The signal is SIGUSR2: SIGTERM would kill a process that has just ended its attempt, and Celery would then wait ten
seconds for that attempt's result. An attempt also obeys a SIGTERM from anybody else.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType
from typing import Any

from celery.worker import state

_WORKER_STOPS = signal.SIGUSR2
_IGNORES_HANGUP = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as `nohup` has it


class StopRequest:
    """Whether the attempt in this process was asked to hand its job back."""

    worker_stops_since = inf

    def __init__(self) -> None:
        # A plain value, not an Event: a signal handler that takes a lock held by the code it
        # interrupted would deadlock.
        self._told_at = inf
        self._parent = os.getppid()

    def ask(self) -> None:
        """Ask the attempt to stop."""
        self._told_at = min(self._told_at, time.monotonic())

    @property
    def asked(self) -> bool:
        """True once told to stop, or once the worker that started this process is gone.

        On Linux, Celery has the kernel kill a pool process whose parent died; elsewhere the changed
        parent id is the only sign, and training on would leave a process that nobody stops.
        """
        if os.getppid() != self._parent:
            self.ask()
        self._told_at = min(self._told_at, StopRequest.worker_stops_since)
        return self._told_at < inf

    @property
    def seconds_ago(self) -> float:
        """How long ago it was asked; minus infinity if it has not been."""
        return time.monotonic() - self._told_at if self.asked else -inf


def heed_the_worker() -> None:
    """Stop this and any later attempt when the parent says so; called when a pool process starts."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        StopRequest.worker_stops_since = min(StopRequest.worker_stops_since, time.monotonic())

    signal.signal(_WORKER_STOPS, on_signal)


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Treat SIGTERM as a stop request while an attempt runs.

    Celery's pool resets the handlers when its process starts, and SIGTERM should still kill an idle
    process, so the handler is installed during the task only.
    """
    request = StopRequest()

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        request.ask()

    before = signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_at_hangup(**_: object) -> None:
    """Take SIGHUP for SIGTERM; for Celery's `worker_ready` signal, which comes after it has set its own handlers.

    Celery would wait for the end of the training, deaf to SIGTERM meanwhile, and then start itself anew.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN if _IGNORES_HANGUP else signal.getsignal(signal.SIGTERM))


def tell_attempts(**_: object) -> None:
    """Start telling the running attempts; for Celery's `worker_shutting_down` signal.

    Without this, a warm shutdown waits until the training is over. The thread keeps checking, because
    a process may still be about to report that it took a task.
    """
    threading.Thread(target=_keep_telling, name="tell-attempts", daemon=True).start()


def _keep_telling(seconds: float = 0.2) -> None:
    told: set[str] = set()
    while True:
        for request in _running():
            if request.worker_pid and request.id not in told:
                told.add(request.id)
                with suppress(ProcessLookupError):
                    os.kill(request.worker_pid, _WORKER_STOPS)
        time.sleep(seconds)


def _running() -> list[Any]:
    try:
        return list(state.active_requests)
    except RuntimeError:  # the main thread is just adding one; the next round sees it
        return []
