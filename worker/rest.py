"""A rest after a job that failed for a full disk: without one, the worker would fail every job of the queue so."""

from __future__ import annotations

import time
from time import monotonic

import structlog

from worker.shutdown import StopRequest

log = structlog.get_logger("intff.rest")

REST_SECONDS = 10.0
"""Long enough for other workers to take what waits, and for somebody to make room."""


class Rest:
    """When this process may take a job again."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Take no job for a while."""
        self._until = monotonic() + REST_SECONDS

    def wait(self, stop: StopRequest) -> None:
        """Wait until the rest is over, or the worker is told to stop."""
        if monotonic() < self._until:
            log.warning("resting", seconds=REST_SECONDS, why="the disk was full")
        while monotonic() < self._until and not stop.asked:
            time.sleep(0.1)


REST = Rest()
