"""The HTTP application: its middleware, its routes, and its background tasks."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from starlette.types import Message, Receive, Scope, Send

from intff.errors import IntffError
from service import errors, openapi
from service.access import Access
from service.body_limit import BodyLimit
from service.metrics import Metrics
from service.parts import Parts, open_parts
from service.quick_predictions import QuickPredictions
from service.reconciler import Reconciler
from service.routes import documentation, events, health, jobs, models, plots, predictions, presets
from service.shutdown import before_shutdown
from store import logs
from store.queries import count_by_status, count_waiting
from store.schema import upgrade
from store.settings import Settings, read_settings
from store.statuses import JobStatus

log = structlog.get_logger("intff.service")


class Application(FastAPI):
    """FastAPI, with a fast path for small predictions in front of it."""

    def __init__(self, metrics: Metrics, **about: Any) -> None:  # noqa: ANN401 -- the framework's own
        super().__init__(**about)
        self._quick = QuickPredictions(super().__call__, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self._run_lifespan(scope, receive, send)
        else:
            await self._quick(scope, receive, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run startup and shutdown; a startup error that an operator can fix is logged as one sentence."""

        async def tell(message: Message) -> None:
            error = sys.exc_info()[1]  # the framework sends the message inside its except block
            if message["type"] == "lifespan.startup.failed" and isinstance(error, IntffError | DBAPIError):
                why = str(error.orig).strip() if isinstance(error, DBAPIError) else str(error)
                message = {**message, "message": f"the service cannot start: {why}"}
            await send(message)

        await super().__call__(scope, receive, tell)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts.

    Args:
        settings: the configuration; read from the environment when absent.

    Raises:
        SettingsError: an environment variable is invalid.
    """
    settings = settings or read_settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.set_up(settings)
        # Uvicorn's access log says less than ours, and one line per request is enough.
        uvicorn_access = logging.getLogger("uvicorn.access")
        uvicorn_access.handlers.clear()
        uvicorn_access.propagate = False
        with open_parts(settings, metrics) as parts:
            await asyncio.to_thread(upgrade, parts.engine)
            await asyncio.to_thread(parts.keyring.read)
            settings.require_safe_bind(has_keys=not parts.keyring.is_open)
            app.state.parts = parts
            metrics.watch_jobs(lambda: _count(parts))
            async with _beside(parts):
                log.info("service_started", database=parts.engine.dialect.name)
                with _started_parts_left_alone():
                    yield
            log.info("service_stopped")

    app = Application(metrics, **openapi.ABOUT, lifespan=lifespan)
    app.add_middleware(BodyLimit, most=settings.max_body_bytes)
    app.add_middleware(Access, metrics=metrics)  # added last, so it is the outermost
    errors.install(app)
    for routes in (jobs, events, plots, models, predictions, presets, health, documentation):
        app.include_router(routes.router)
    app.include_router(health.signed_in_router)
    app.mount(documentation.FILES, documentation.files)
    openapi.install(app)
    return app


@asynccontextmanager
async def _beside(parts: Parts) -> AsyncIterator[None]:
    """Run the reconciler, the watcher and the keyring's refresh while the application is up."""
    reconciler = Reconciler(parts.sessions, parts.publisher, parts.settings, parts.metrics)
    reconciler.start()
    running = [asyncio.create_task(each.run()) for each in (parts.watcher, parts.keyring)]
    try:
        with before_shutdown(parts.watcher.close):
            yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(reconciler.stop)
        # A cancelled task's thread keeps running; let it return its connection before the engine is closed.
        await asyncio.get_running_loop().shutdown_default_executor()


@contextmanager
def _started_parts_left_alone() -> Iterator[None]:
    """Exclude everything allocated so far from garbage collection.

    None of it becomes garbage while the service runs, and scanning it takes a tenth of a second, during which no
    request is answered.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _count(parts: Parts) -> tuple[dict[JobStatus, int], dict[str, int]]:
    with parts.read_sessions() as session:
        return count_by_status(session), count_waiting(session)


app = create_app()
