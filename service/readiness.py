"""Whether the database and the broker answer, asked with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from celery import Celery
from sqlalchemy import Engine

from store.schema import is_current

_DEADLINE_SECONDS = 2.0


async def ask(engine: Engine, broker: Celery) -> dict[str, str]:
    """Ask both at once.

    Returns:
        For each, `ok` or one sentence on what is wrong.
    """
    database, queue = await asyncio.gather(
        _in_time(lambda: _ask_database(engine)), _in_time(lambda: _ask_broker(broker))
    )
    return {"database": database, "broker": queue}


async def _in_time(question: Callable[[], str]) -> str:
    try:
        # The thread goes on until its own time-outs end it; nobody waits for it here.
        return await asyncio.wait_for(asyncio.to_thread(question), _DEADLINE_SECONDS)
    except TimeoutError:
        return f"it did not answer within {_DEADLINE_SECONDS:g} seconds"
    except Exception as error:  # noqa: BLE001 -- each driver has its own classes, and the answer is for people
        return f"it cannot be reached: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _ask_database(engine: Engine) -> str:
    return "ok" if is_current(engine) else "its schema is not this program's"


def _ask_broker(broker: Celery) -> str:
    with broker.connection_for_write() as connection:
        channel: Any = connection.default_channel  # of the Redis transport, which the types do not know
        channel.client.ping()
    return "ok"
