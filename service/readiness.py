"""Whether the database and the broker answer, asked with a deadline and on behalf of all who want to know."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any

import structlog
from celery import Celery
from sqlalchemy import Engine

from service.shared_questions import SharedQuestions
from store.schema import is_current

log = structlog.get_logger("intff.service")

_DEADLINE_SECONDS = 2.0
_SHARED_SECONDS = 1.0  # how old an answer may be; nobody needs a key to ask, however often


class Readiness:
    """What the parts last answered; each is asked by one thread at a time, so that others keep theirs."""

    def __init__(self, engine: Engine, broker: Celery) -> None:
        self._parts = {"database": partial(_ask_database, engine), "broker": partial(_ask_broker, broker)}
        self._questions = SharedQuestions()
        self._answers: dict[str, tuple[str, float]] = {}
        self._reasons: dict[str, str] = {}

    async def ask(self) -> dict[str, str]:
        """Ask both at once, unless they answered a moment ago.

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
            # Its thread goes on until its own time-outs end it; who asks meanwhile waits for the same, and not longer.
            return await asyncio.wait_for(self._questions.ask(part, partial(self._ask, part)), _DEADLINE_SECONDS)
        except TimeoutError:
            return f"it did not answer within {_DEADLINE_SECONDS:g} seconds"

    async def _ask(self, part: str) -> str:
        try:
            answer = await asyncio.to_thread(self._parts[part])
        except Exception as error:  # noqa: BLE001 -- each driver has its own classes
            # What a driver says is for the log: nobody needs a key to ask here, and it may quote a URL.
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
    return "ok" if is_current(engine) else "its schema is not this program's"


def _ask_broker(broker: Celery) -> str:
    with broker.connection_for_write() as connection:
        channel: Any = connection.default_channel  # of the Redis transport, which the types do not know
        channel.client.ping()
    return "ok"
