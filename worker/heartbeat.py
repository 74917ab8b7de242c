"""The parent process records in the database every few seconds that this worker is alive and which queues it serves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps
from sqlalchemy.exc import SQLAlchemyError

from store.database import Sessions, connect, sessions
from store.settings import read_settings
from store.workers import beat, retire
from worker.devices import device_name

log = structlog.get_logger("intff.heartbeat")

BEAT_SECONDS = 5.0


class Heartbeat(bootsteps.StartStopStep):
    """Sends heartbeats from when the pool is up until the worker shuts down."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: object, **options: object) -> None:
        super().__init__(worker, **options)
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def start(self, parent: Any) -> None:  # noqa: ANN401 - the same
        """Start sending heartbeats."""
        queues = sorted(parent.app.amqp.queues.consume_from)
        self._thread = threading.Thread(
            target=_beat_until,
            args=(self._over.wait, own_name(parent.hostname), queues),
            name="heartbeat",
            daemon=True,
        )
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ANN401, ARG002 - the same; Celery passes it
        """Stop sending heartbeats, and remove this worker so that nobody waits for it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=BEAT_SECONDS)

    def terminate(self, parent: Any) -> None:  # noqa: ANN401 - the same
        """Do the same on a forced shutdown."""
        self.stop(parent)


def own_name(node: str) -> str:
    """Celery's name for this worker plus its process id: two workers on one host may share the name."""
    name, _, host = node.partition("@")
    return f"{name}-{os.getpid()}@{host}"


def _beat_until(is_over: Callable[[float], bool], name: str, queues: list[str]) -> None:
    engine = connect(read_settings().database_url)
    factory = sessions(engine)
    device = device_name(queues)
    is_away = False
    while True:
        try:
            with factory.begin() as session:
                beat(session, name, queues=queues, device=device)
        except SQLAlchemyError as error:
            if not is_away:
                log.warning("database_away", error=str(error).splitlines()[0])
            is_away = True
        else:
            is_away = False
        if is_over(BEAT_SECONDS):
            break
    _retire(factory, name)
    engine.dispose()


def _retire(factory: Sessions, name: str) -> None:
    try:
        with factory.begin() as session:
            retire(session, name)
    except SQLAlchemyError as error:
        log.info("retire_failed", error=str(error).splitlines()[0])  # the row soon becomes too old to count
