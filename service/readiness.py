"""Checks whether the database and the broker answer, with a timeout, and shares the result between requests."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import structlog
from celery import Celery
from sqlalchemy import Engine

from service.single_flight import SingleFlight
from store.schema import is_current

log = structlog.get_logger("intff.service")

_DEADLINE_SECONDS = 2.0
_SHARED_SECONDS = 1.0  # how old an answer may be; no key is needed to ask, so anybody may ask often


class Readiness:
    """The latest answer of each part; each is checked by one thread at a time, so that none uses up the pool."""

    def __init__(self, engine: Engine, broker: Celery) -> None:
        self._parts = {"database": partial(_ask_database, engine), "broker": partial(_ask_broker, broker)}
        self._questions = SingleFlight()
        self._answers: dict[str, tuple[str, float]] = {}
        self._reasons: dict[str, str] = {}

    async def ask(self) -> dict[str, str]:
        """Check both concurrently, unless they answered a moment ago.

        Returns:
            For each, `ok` or one sentence on what is wrong.
        """
        answers = await asyncio.gather(*(self._answer(part) for part in self._parts))
        return dict(zip(self._parts, answers, strict=True))

    async def _answer(self, part: str) -> str:
        answer, good_until = self._answers.get(part, ("", 0.0))
        if monotonic() < good_until:
            return answer
        try:
            # The thread runs on until its own timeouts end it; callers meanwhile wait for the same check, no longer.
            return await asyncio.wait_for(self._questions.ask(part, partial(self._ask, part)), _DEADLINE_SECONDS)
        except TimeoutError:
            return f"it did not answer within {_DEADLINE_SECONDS:g} seconds"

    async def _ask(self, part: str) -> str:
        try:
            answer = await asyncio.to_thread(self._parts[part])
        except Exception as error:  # noqa: BLE001 -- each driver has its own classes
            # A driver's message may quote the URL with its password, and no key is needed to ask: it goes into the log.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if reason != self._reasons.get(part):
                log.warning("not_ready", part=part, reason=reason)
            self._reasons[part] = reason
            answer = "it cannot be reached; the service's log says why"
        else:
            self._reasons.pop(part, None)
        self._answers[part] = (answer, monotonic() + _SHARED_SECONDS)
        return answer


def _ask_database(engine: Engine) -> str:
    return "ok" if is_current(engine) else "its schema is not the one that this version needs"


def _ask_broker(broker: Celery) -> str:
    with broker.connection_for_write() as connection:
        channel: Any = connection.default_channel  # of the Redis transport, which the types do not know
        channel.client.ping()
    return "ok"
