"""Access middleware: request ids, the access log, request metrics, and the response when a route fails."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from itertools import count
from time import perf_counter
from uuid import uuid4

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import problem_response
from service.routes.predictions import PATH as PREDICT

log = structlog.get_logger("intff.access")
_levels = logging.getLogger("intff.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_process = uuid4().hex[:20]  # random once per process, then a counter: cheaper than a random id per request
_numbers = count()
_QUIET = {"/healthz", "/readyz", "/metrics"}  # polled every few seconds by probes and scrapers


class Access:
    """Middleware around the whole framework; only `QuickPredictions` runs before it, and logs its own answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server keeps its own scope, so it still omits the body
        began = perf_counter()
        request_id = id_of(scope)
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, noting_send)
            except ClientDisconnect:
                pass  # the client left while sending its body: there is nobody to answer, and nothing has failed
            except Exception:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
                if status:
                    raise  # the response has begun: only closing the connection can signal the failure
                detail = f"internal server error; details are in the server's log under request id {request_id}"
                response = problem_response("internal_error", detail, scope["path"])
                await response(scope, receive, noting_send)
            finally:
                route = getattr(scope.get("route"), "path", "unknown")
                note_answer(self.metrics, scope, route, status or 499, perf_counter() - began)


def note_answer(metrics: Metrics, scope: Scope, route: str, status: int, seconds: float, **more: str) -> None:
    """Record an answered request in the metrics and in the access log."""
    metrics.saw_request(scope["method"], route, status, seconds)
    # At thousands of predictions a second, log lines would fill the disk; the metrics are enough.
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    is_quiet = path in _QUIET or (route == PREDICT and status == HTTPStatus.OK)
    level = logging.DEBUG if is_quiet else logging.INFO
    if not _levels.isEnabledFor(level):
        return
    job = scope.get("path_params", {}).get("job_id")
    if job:
        more["job"] = job
    log.log(
        level, "request", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4), **more
    )


def id_of(scope: Scope) -> str:
    """The request's id: the one in its X-Request-Id header if that is well-formed, else a new one."""
    given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
    if _REQUEST_ID.fullmatch(given):
        return given
    return f"{_process}{next(_numbers):012x}"
