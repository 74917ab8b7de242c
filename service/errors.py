"""HTTP-level errors, and the handlers that turn every error into a problem document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from intff.errors import IntffError
from intff.spec import Problem, problem
from service.problems import KINDS, MOST_FIELDS, problem_response

log = structlog.get_logger("intff.service")

_OTHER_SCHEMA = {"42P01", "42703"}  # PostgreSQL's codes of a table and of a column that are not there

_BY_STATUS = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
}


class Unauthorized(IntffError):
    """The request carries no valid API key."""

    code: ClassVar[str] = "unauthorized"


class UnsupportedMediaType(IntffError):
    """The body's Content-Type is not one that the route reads."""

    code: ClassVar[str] = "unsupported_media_type"


class InvalidRequest(IntffError):
    """A field of the request is invalid in a way that no schema could detect; `field` names it."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ModelCorrupt(IntffError):
    """A model's stored files are not the ones that were published."""

    code: ClassVar[str] = "model_corrupt"


class Unavailable(IntffError):
    """The database, the broker or the artifact store does not answer."""

    code: ClassVar[str] = "unavailable"


def install(app: FastAPI) -> None:
    """Make every error of this application a problem document."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(IntffError, _on_intff_error)
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_exception_handler(PoolTimeout, _on_database_error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, "internal_error")
    path = request.url.path
    if code == "invalid_request":
        # FastAPI answers 400 when the body could not be parsed; the cause says why.
        cause = error.__cause__
        nested = isinstance(cause, RecursionError)
        message = "the JSON is nested too deeply" if nested else f"the body cannot be read: {cause or error.detail}"
        return problem_response(code, message, path, errors=[Problem("body", message)])
    detail = str(error.detail)
    if code == "not_found" and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is no route {path}; /docs lists them"
    if code == "method_not_allowed":
        allowed = ", ".join(_methods_here(request))
        detail = f"{request.method} is not supported here; allowed: {allowed}"
        return problem_response(code, detail, path, headers={"Allow": allowed})
    return problem_response(code, detail, path, headers=error.headers)


def _methods_here(request: Request) -> list[str]:
    """The methods of all routes with this path; the framework only reports those of the first one."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path_regex and route.path_regex.fullmatch(request.url.path):
            found |= route.methods
    return sorted(found)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    path = request.url.path
    if isinstance(error.body, bytes):
        arrived = request.headers.get("content-type", "no Content-Type")
        detail = f"this route reads application/json, got {arrived}; curl needs -H 'Content-Type: application/json'"
        return problem_response("unsupported_media_type", detail, path)
    found = [_field_problem(entry, error.body) for entry in error.errors()]
    spec_only = all(each.field.split(".")[0] == "spec" for each in found)
    code = "invalid_spec" if spec_only else "invalid_request"
    return problem_response(code, _summary(found), path, errors=found)


def _field_problem(entry: Any, body: Any) -> Problem:  # noqa: ANN401 -- pydantic's error and whatever arrived
    where, *path = entry["loc"]
    if entry["type"] == "json_invalid":
        return Problem("body", f"the body is not JSON: {entry['ctx']['error']} at character {path[0]}")
    given = body if where == "body" else {}
    read = problem(cast("ErrorDetails", {**entry, "loc": tuple(path)}), given)
    return Problem(read.field or str(where), read.message)


async def _on_intff_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, IntffError)
    code = error.code if error.code in KINDS else "internal_error"
    if code == "internal_error":
        raise error  # not meant for clients: `Access` logs it and answers 500
    kind = KINDS[code]
    headers = dict(getattr(error, "headers", {}))
    if kind.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if kind.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.setdefault("Retry-After", "10")
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        log.error(code, error=str(error), path=request.url.path)
        if code == "unavailable":
            headers["Retry-After"] = "5"
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        found = [Problem(getattr(error, "field", "") or "body", str(error))]
        return problem_response(code, _summary(found), request.url.path, errors=found, headers=headers)
    return problem_response(code, str(error), request.url.path, headers=headers)


async def _on_database_error(request: Request, error: Exception) -> Response:
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _OTHER_SCHEMA:
        log.error("database_of_another_version", error=str(getattr(error, "orig", error)), path=request.url.path)
        detail = "the database's tables are not of this program's version"
        return problem_response("unavailable", detail, request.url.path, headers={"Retry-After": "5"})
    if not isinstance(error, OperationalError | InterfaceError | PoolTimeout):
        raise error
    log.error("database_unavailable", error=str(getattr(error, "orig", error)), path=request.url.path)
    detail = "the database cannot be reached; try again"
    return problem_response("unavailable", detail, request.url.path, headers={"Retry-After": "5"})


def _summary(found: list[Problem]) -> str:
    sentences = [
        each.message if each.field == "body" else f"{each.field}: {each.message}" for each in found[:MOST_FIELDS]
    ]
    more = [f"and {len(found) - MOST_FIELDS:,} more"] if len(found) > MOST_FIELDS else []
    return "; ".join(sentences + more)
