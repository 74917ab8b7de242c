"""Work that takes long goes to threads of its own, behind a line of limited length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from service.rate_limit import RateLimited

Given = TypeVar("Given")

_COME_BACK_SECONDS = 5.0


class Line:
    """One kind of work: so many pieces at once, so many waiting, and who comes then is sent away.

    Counted here, not by the limiter: it knows of a piece only a turn of the event loop after it came.

    Args:
        threads: how many pieces are done at once, whatever else the process does.
        most_waiting: how many more may wait.
        what: what waits, for the message: `64 predictions are waiting`.
    """

    def __init__(self, threads: int, most_waiting: int, what: str) -> None:
        self.threads = threads
        self.most_waiting = most_waiting
        self.inside = 0
        """Pieces that are being done, or wait."""
        self._what = what
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, work: Callable[[], Given]) -> Given:
        """Do a piece in a thread, after those that came before.

        Raises:
            RateLimited: too many are waiting.
        """
        if self.inside >= self.threads + self.most_waiting:
            msg = f"{self.most_waiting} {self._what} are waiting already; try again"
            raise RateLimited(msg, _COME_BACK_SECONDS)
        self.inside += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self.inside -= 1
