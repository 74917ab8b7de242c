"""Coalesces concurrent calls: many callers share the result of one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")


class SingleFlight:
    """The calls in progress in one event loop, by key."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        """Call `question`, or wait for the call in progress under the same key; all callers get its result or error.

        Anything that `question` caches is in place before a new call can start.
        """
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(question())
            task.add_done_callback(lambda _: self._asked.pop(key))
        # A caller that is cancelled must not cancel the task for the others.
        found: _Answer = await asyncio.shield(task)
        return found
