"""A pause after a job that failed because the disk was full: else the worker would fail every queued job in turn."""

from __future__ import annotations

import time
from time import monotonic

import structlog

from worker.shutdown import StopRequest

log = structlog.get_logger("intff.cooldown")

COOLDOWN_SECONDS = 10.0
"""Long enough for other workers to take waiting jobs, and for somebody to free space."""


class Cooldown:
    """When this process may take a job again."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Take no job for a while."""
        self._until = monotonic() + COOLDOWN_SECONDS

    def wait(self, stop: StopRequest) -> None:
        """Wait until the pause is over, or the worker is told to stop."""
        if monotonic() < self._until:
            log.warning("cooling_down", seconds=COOLDOWN_SECONDS, why="the disk was full")
        while monotonic() < self._until and not stop.asked:
            time.sleep(0.1)


COOLDOWN = Cooldown()
