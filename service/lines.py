"""Bounded queues for slow work, which runs in dedicated threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from service.rate_limit import RateLimited

Given = TypeVar("Given")

_COME_BACK_SECONDS = 5.0


class Line:
    """A bounded queue for one kind of work; when it is full, further work is refused.

    The count is kept here and not taken from the limiter, which lags by one iteration of the event loop.

    Args:
        threads: how many tasks run at once, whatever else the process does.
        most_waiting: how many more may wait.
        what: what is waiting, for the message: `64 predictions are waiting`.
    """

    def __init__(self, threads: int, most_waiting: int, what: str) -> None:
        self.threads = threads
        self.most_waiting = most_waiting
        self.inside = 0
        """Tasks that are running or waiting."""
        self._what = what
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, work: Callable[[], Given]) -> Given:
        """Run a task in a thread, after those that came before it.

        Raises:
            RateLimited: too many are waiting.
        """
        if self.inside >= self.threads + self.most_waiting:
            msg = f"{self.most_waiting} {self._what} are already waiting; try again"
            raise RateLimited(msg, _COME_BACK_SECONDS)
        self.inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self.inside -= 1
