"""Rate limiting: a token bucket for each key, in the memory of each API process."""

from __future__ import annotations

from math import ceil
from time import monotonic
from typing import ClassVar

from intff.errors import IntffError


class RateLimited(IntffError):
    """Too many requests; `headers` say when to try again."""

    code: ClassVar[str] = "rate_limited"

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, ceil(seconds)))}


class RateLimit:
    """The buckets; only keys that are valid get one, so there are never more of them than keys.

    Args:
        per_second: how many tokens a bucket gains in a second; 0 for no limit at all.
        burst: how many it holds.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> None:
        """Let one request pass.

        Raises:
            RateLimited: the bucket is empty.
        """
        if not self._per_second:
            return
        now = monotonic()
        tokens, since = self._buckets.get(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            msg = f"a key may send {self._per_second:g} requests a second, and {self._burst:,.0f} at once"
            raise RateLimited(msg, (1 - tokens) / self._per_second)
        self._buckets[key] = (tokens - 1, now)
