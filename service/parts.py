"""What one running application is made of, opened when it starts and closed when it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from celery import Celery
from sqlalchemy import Engine

from service.image_bodies import ImageLimits
from service.keyring import Keyring
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


@dataclass(frozen=True)
class Parts:
    """Everything that routes share."""

    settings: Settings
    engine: Engine
    sessions: Sessions
    """Of sessions that write."""
    read_sessions: Sessions
    """Of sessions that only read."""
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
    prediction_threads: anyio.CapacityLimiter
    """Of their own, and as many as cores: large predictions must not keep every other route waiting."""
    drawing_threads: anyio.CapacityLimiter
    """A single one: figures are drawn one at a time in a process."""


@contextmanager
def open_parts(settings: Settings, metrics: Metrics) -> Iterator[Parts]:
    """Prepare the parts; inside a running event loop. No connection is opened before its first use."""
    engine = connect(settings.database_url)
    # Without a broker of its own, the one that `intff serve` runs for the same home is meant.
    broker_url = settings.broker_url or f"redis+socket://{socket_folder(settings.home) / 'valkey.sock'}"
    broker = celery_app(broker_url)
    artifacts = Artifacts(settings.artifacts_url)
    writing, reading = sessions(engine), read_sessions(engine)
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
            predictor=Predictor(reading, artifacts),
            watcher=Watcher(reading),
            readiness=Readiness(engine, broker),
            image_limits=ImageLimits(settings.max_images, settings.max_image_pixels),
            prediction_threads=anyio.CapacityLimiter(os.cpu_count() or 1),
            drawing_threads=anyio.CapacityLimiter(1),
        )
    finally:
        broker.close()
        engine.dispose()
