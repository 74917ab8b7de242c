"""What one running application is made of, opened when it starts and closed when it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery
from sqlalchemy import Engine

from service.image_bodies import ImageLimits
from service.keyring import Keyring
from service.lines import Line
from service.metrics import Metrics
from service.prediction import Predictor
from service.publishing import Publisher
from service.rate_limit import RateLimit
from service.readiness import Readiness
from service.stream_limit import StreamLimit
from service.valkey import socket_folder
from service.watcher import Watcher
from store.artifacts import Artifacts
from store.database import Sessions, connect, read_sessions, sessions
from store.queue import celery_app
from store.settings import Settings

# How many may wait; beyond that, clients are told to try again.
_MOST_PREDICTIONS = 64  # each keeps its body in memory, up to 32 MiB
_MOST_DRAWINGS = 32  # each takes about half a second


@dataclass(frozen=True)
class Parts:
    """Everything that routes share."""

    settings: Settings
    engine: Engine
    sessions: Sessions
    """Makes sessions that write."""
    read_sessions: Sessions
    """Makes sessions that only read."""
    keyring: Keyring
    rate_limit: RateLimit
    stream_limit: StreamLimit
    broker: Celery
    publisher: Publisher
    artifacts: Artifacts
    metrics: Metrics
    predictor: Predictor
    watcher: Watcher
    readiness: Readiness
    image_limits: ImageLimits
    predictions: Line
    """For large predictions, as many at once as there are cores: they must not block every other route."""
    drawings: Line
    """For figures, one at a time."""


@contextmanager
def open_parts(settings: Settings, metrics: Metrics) -> Iterator[Parts]:
    """Prepare the parts; requires a running event loop. Connections are opened on first use."""
    engine = connect(settings.database_url)
    # If no broker is configured, use the one that `intff serve` runs for the same home.
    broker_url = settings.broker_url or f"redis+socket://{socket_folder(settings.home) / 'valkey.sock'}"
    broker = celery_app(broker_url)
    artifacts = Artifacts(settings.artifacts_url)
    writing, reading = sessions(engine), read_sessions(engine)
    predictor = Predictor(reading, artifacts)
    try:
        yield Parts(
            settings=settings,
            engine=engine,
            sessions=writing,
            read_sessions=reading,
            keyring=Keyring(settings, writing, reading),
            rate_limit=RateLimit(settings.rate_limit_per_second, settings.rate_limit_burst),
            stream_limit=StreamLimit(settings.max_event_streams),
            broker=broker,
            publisher=Publisher(broker, writing),
            artifacts=artifacts,
            metrics=metrics,
            predictor=predictor,
            watcher=Watcher(reading, predictor.heard_of),
            readiness=Readiness(engine, broker),
            image_limits=ImageLimits(settings.max_images, settings.max_image_pixels),
            predictions=Line(os.cpu_count() or 1, _MOST_PREDICTIONS, "predictions"),
            drawings=Line(1, _MOST_DRAWINGS, "figures"),
        )
    finally:
        broker.close()
        engine.dispose()
