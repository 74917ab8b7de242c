"""Structured logs, the same for the service and the worker: one event per line, readable or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.types import Processor

from store.settings import Settings, misspelt_variables

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
# Without the values of local variables: they are long, and one of them may be a secret.
_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
_QUIET = (
    "alembic",
    "amqp",
    "asyncio",
    "botocore",
    "fsspec",
    "kombu",
    "s3fs",
    "torch",
    "urllib3",
)


def set_up(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs, structlog's and the libraries' own, to one stream in one format.

    Args:
        settings: the level, and whether to write JSON.
        stream: where to write; standard error by default.
    """
    target = stream if stream is not None else sys.stderr
    renderers: list[Processor] = (
        [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
        if settings.log_json
        else [structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    for name, closest in misspelt_variables().items():
        structlog.get_logger("intff.settings").warning("unknown_variable", name=name, closest=closest)


bind = structlog.contextvars.bound_contextvars
"""`with bind(job=..., attempt=...):` adds these two fields to every line logged inside it."""
