"""Questions that many ask at once and one task answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")


class SharedQuestions:
    """The questions of one event loop that are under way, each under a key."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        """Ask, or wait for the same question that is under way; its error is everybody's too.

        What the question itself keeps of its answer is there before anybody can ask anew.
        """
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(question())
            task.add_done_callback(lambda _: self._asked.pop(key))
        # A caller who goes away must not take the answer from the others.
        found: _Answer = await asyncio.shield(task)
        return found
