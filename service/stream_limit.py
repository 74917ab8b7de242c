"""How many event streams a key may hold open: counted in the memory of each API process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.auth import Caller
from service.rate_limit import RateLimited

_COME_BACK_SECONDS = 10.0  # nobody knows when a stream will end


class StreamLimit:
    """The open streams of each key; without keys there is no limit.

    Args:
        most: how many a key may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """Count one stream for as long as it is open.

        Raises:
            RateLimited: the key already has as many as allowed.
        """
        key = caller.key
        if key is None:
            yield
            return
        if self._open[key] >= self._most:
            msg = f"a key may have {self._most:,} event streams open at once; close one, or poll the job instead"
            raise RateLimited(msg, _COME_BACK_SECONDS)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
