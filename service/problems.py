"""RFC 9457 problem documents: the mapping from error codes to HTTP, and how they are written and documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from intff.spec import Problem

MEDIA_TYPE = "application/problem+json"

MOST_FIELDS = 20
"""Invalid fields listed in one response; a request may have a million of them."""


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its HTTP status, its title, and an example of its detail."""

    status: int
    title: str
    example: str


KINDS: dict[str, Kind] = {
    "malformed_request": Kind(400, "This is not HTTP", "Invalid HTTP request received."),
    "unauthorized": Kind(
        401, "A valid API key is required", "this service requires an API key; send one as 'Authorization: Bearer KEY'"
    ),
    "not_found": Kind(404, "Not found", "there is no job 'job_06f2k4m8'"),
    "method_not_allowed": Kind(405, "This method is not supported", "POST is not supported here; allowed: GET"),
    "conflict": Kind(
        409, "The job's status does not allow this", "job job_06f2k4m8 has succeeded and cannot be paused any more"
    ),
    "idempotency_key_reused": Kind(
        409,
        "The Idempotency-Key was used for another request",
        "this Idempotency-Key was used for another request; use a new key for each different request",
    ),
    "alias_reserved": Kind(409, "This alias is reserved", "the alias 'latest' is reserved; choose another name"),
    "too_slow": Kind(408, "The body arrived too slowly", "the body arrived too slowly: 12 bytes in 20 seconds or more"),
    "payload_too_large": Kind(413, "The body is too large", "a body may have at most 33,554,432 bytes"),
    "unsupported_media_type": Kind(
        415, "The body's media type is not supported here", "this route reads application/json, got text/plain"
    ),
    "invalid_request": Kind(
        422, "The request is not valid", "limit: Input should be less than or equal to 200, got '500'"
    ),
    "invalid_spec": Kind(
        422,
        "The training spec cannot be run",
        "spec.architecture: expected a width such as 200 or a hidden unit such as (50,50) at '(200' in '784,(200'",
    ),
    "invalid_image": Kind(
        422,
        "An image cannot be read",
        "images.0: an image is 1 x 28 x 28 or 28 x 28 numbers, nested, or 784 in one list; got 783",
    ),
    "quota_exceeded": Kind(
        429,
        "Too many unfinished jobs",
        "at most 1000 unfinished jobs are allowed, and there are 1000; wait for one to finish or cancel one",
    ),
    "rate_limited": Kind(429, "Too many requests", "a key may send 500 requests a second, and 1,000 at once"),
    "internal_error": Kind(
        500, "Internal server error", "internal server error; details are in the server's log under request id 7f3a"
    ),
    "model_corrupt": Kind(
        503,
        "The model's files are damaged",
        "model.onnx of 'mdl_06f2k4m8' is not the file that was published; it is not served",
    ),
    "not_ready": Kind(503, "The service is not ready", "broker: it did not answer within 2 seconds"),
    "unavailable": Kind(503, "A part of the service cannot be reached", "the database cannot be reached; try again"),
}


class FieldProblem(BaseModel):
    """One invalid field."""

    field: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem details; `code` is stable, for use by programs."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldProblem] | None = None


def problem_response(
    code: str,
    detail: str,
    instance: str,
    *,
    errors: list[Problem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build one problem document; `code` is a key of `KINDS`."""
    kind = KINDS[code]
    document = ProblemDocument(
        type=_type_of(code),
        title=kind.title,
        status=kind.status,
        detail=_writable(detail),
        instance=quote(instance),
        code=code,
        errors=errors
        and [
            FieldProblem(field=_writable(each.field), message=_writable(each.message)) for each in errors[:MOST_FIELDS]
        ],
    )
    body = document.model_dump_json(exclude_none=True)
    return Response(body, status_code=kind.status, media_type=MEDIA_TYPE, headers=headers)


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the problems that a route can answer with, each with an example."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = KINDS[code]
        example: dict[str, Any] = {
            "type": _type_of(code),
            "title": kind.title,
            "status": kind.status,
            "detail": kind.example,
            "instance": "/v1/jobs",
            "code": code,
        }
        if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            field, _, message = kind.example.partition(": ")
            example["errors"] = [{"field": field, "message": message}]
        entry = found.setdefault(
            kind.status,
            {
                "description": kind.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][code] = {"summary": kind.title, "value": example}
    return found


def _type_of(code: str) -> str:
    return f"urn:intff:problem:{code}"


def _writable(text: str) -> str:
    """Text that UTF-8 can encode: JSON may contain lone surrogates, which the response quotes."""
    return text.encode(errors="backslashreplace").decode()
