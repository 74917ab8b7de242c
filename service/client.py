"""A small typed client of the HTTP API, for programs and for the commands `intff jobs` and `intff models`."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, cast

import httpx
from httpx_sse import EventSource, SSEError

from intff.errors import IntffError
from intff.spec import Problem

DEFAULT_URL = "http://127.0.0.1:8000"

_ATTEMPTS = 6
_FIRST_WAIT = 0.25  # seconds; doubled at every attempt, to outlast a restart of the service
_EVENTS_SILENCE = 60.0  # the service sends a comment far more often while a stream is idle
_CHUNK = 1 << 16
_SHA256 = re.compile(r"[0-9a-f]{64}")
_IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}

Move = Literal["cancel", "pause", "resume"]


class Job(TypedDict):
    """A job as the API shows it."""

    id: str
    object: Literal["job"]
    name: str | None
    status: str
    is_terminal: bool
    spec: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None
    progress: dict[str, Any]
    latest_metrics: dict[str, Any] | None
    result: dict[str, Any] | None
    attempt: int
    error: dict[str, str] | None
    model_id: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event of a job: `status`, `progress` or `metrics`, with its JSON."""

    kind: str
    data: dict[str, Any]
    id: str


class ApiError(IntffError):
    """The service refused a request, or could not be reached (`status` is then None)."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "unreachable",
        status: int | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        lines = [f"{entry.field}: {entry.message}" for entry in problems]
        super().__init__("\n  ".join([message, *(line for line in lines if line not in message)]))
        self.code = code  # type: ignore[misc]  # the code comes from the response, not from the class
        self.status = status
        self.problems = tuple(problems)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later: the service was unreachable, failing or too busy."""
        if self.status is None:
            return self.code == "unreachable"
        return self.status >= httpx.codes.INTERNAL_SERVER_ERROR or self.status == httpx.codes.TOO_MANY_REQUESTS


class Client:
    """The API of one service; use it as a context manager, or close it."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None, *, timeout: float = 30.0) -> None:
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            msg = "an API key has only printable ASCII characters"
            raise ApiError(msg, code="unauthorized")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.url = url.rstrip("/")
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
            is_complete = self._http.base_url.scheme in {"http", "https"} and bool(self._http.base_url.host)
        except httpx.InvalidURL:
            is_complete = False
        if not is_complete:
            msg = f"the URL of a service looks like {DEFAULT_URL}, got {url!r}"
            raise ApiError(msg, code="invalid_url")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        spec: Mapping[str, Any],
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a training job; a retry after a lost response does not create a second job."""
        optional = {"name": name, "metadata": metadata, "priority": priority}
        body = {"spec": dict(spec), **{key: value for key, value in optional.items() if value is not None}}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return cast("Job", self._json("POST", "/v1/jobs", json=body, headers=headers))

    def job(self, job_id: str) -> Job:
        """One job."""
        return cast("Job", self._json("GET", f"/v1/jobs/{job_id}"))

    def jobs(self, *, status: str | None = None, name: str | None = None, page: int | None = None) -> Iterator[Job]:
        """All jobs, newest first, fetched lazily page by page."""
        for job in self._pages("/v1/jobs", {"status": status, "name": name, "limit": page}):
            yield cast("Job", job)

    def move(self, job_id: str, move: Move) -> Job:
        """Cancel, pause or resume a job; repeating the call is harmless."""
        return cast("Job", self._json("POST", f"/v1/jobs/{job_id}/{move}"))

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """The metrics of every finished epoch."""
        return cast("list[dict[str, Any]]", self._json("GET", f"/v1/jobs/{job_id}/metrics")["data"])

    def plot(self, job_id: str, image: Literal["svg", "png"] = "svg") -> bytes:
        """A figure of the job so far: losses, goodness and accuracy over its epochs."""
        return self._answer("GET", f"/v1/jobs/{job_id}/plot.{image}").content

    def events(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """Follow a job to its end; a broken connection is resumed where it broke.

        Raises:
            ApiError: the service refused, or was unreachable for too long.
        """
        failures = 0
        while True:
            lost: Exception | None = None
            try:
                for event in self._connected_events(job_id, last_event_id):
                    failures = 0
                    last_event_id = event.id or last_event_id
                    yield event
                    if event.kind == "status" and event.data["is_terminal"]:
                        return
            except _NothingLeft:
                return
            except (httpx.TransportError, SSEError) as error:
                lost = error
            except ApiError as error:
                if not error.is_temporary:
                    raise
                lost = error
            failures += 1
            if failures >= _ATTEMPTS:
                raise _unreachable(self.url, lost) from lost
            time.sleep(_FIRST_WAIT * 2**failures)

    def models(self, *, page: int | None = None) -> Iterator[dict[str, Any]]:
        """All models, newest first, fetched lazily page by page."""
        return self._pages("/v1/models", {"limit": page})

    def model(self, model: str) -> dict[str, Any]:
        """One model, by its id or an alias."""
        return self._json("GET", f"/v1/models/{model}")

    def set_alias(self, alias: str, model_id: str) -> dict[str, Any]:
        """Point an alias at a model."""
        return self._json("PUT", f"/v1/aliases/{alias}", json={"model": model_id})

    def predict(self, model: str, images: Sequence[Any], *, scale: str | None = None) -> dict[str, Any]:
        """Classify images given as nested lists (or anything with `tolist`, such as NumPy arrays)."""
        plain = [image.tolist() if hasattr(image, "tolist") else image for image in images]
        body = {"images": plain, **({"scale": scale} if scale else {})}
        return self._json("POST", f"/v1/models/{model}/predict", json=body)

    def predict_files(self, model: str, files: Sequence[Path], *, invert: str = "auto") -> dict[str, Any]:
        """Classify image files: PNG, JPEG and the like."""
        parts = [("images", (file.name, file.read_bytes(), _image_type(file))) for file in files]
        return self._json("POST", f"/v1/models/{model}/predict", files=parts, params={"invert": invert})

    def download(self, model: str, artifact: str, target: Path) -> None:
        """Save one of a model's files; `target` is written completely or not at all."""
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            with self._stream("GET", f"/v1/models/{model}/artifacts/{artifact}") as response:
                _require_success(response)
                digest = hashlib.sha256()
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes(_CHUNK):
                        file.write(chunk)
                        digest.update(chunk)
                expected = _SHA256.search(response.headers.get("ETag", ""))  # a proxy may add to it: W/"...-gzip"
                if expected is not None and expected[0] != digest.hexdigest():
                    msg = f"{artifact} arrived damaged; download it again"
                    raise ApiError(msg, code="damaged", status=response.status_code)
            partial.replace(target)
        except httpx.TransportError as error:
            raise _unreachable(self.url, error) from error
        finally:
            partial.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        """Whether the service answers and reports that it is ready."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def _connected_events(self, job_id: str, last_event_id: str | None) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        with self._stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
            _require_success(response)
            if response.status_code == httpx.codes.NO_CONTENT:
                raise _NothingLeft
            for event in EventSource(response).iter_sse():
                if event.data:  # without data, it is a comment that keeps the connection open
                    yield Event(event.event, json.loads(event.data), event.id)

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        given = {key: value for key, value in query.items() if value is not None}
        while True:
            page = self._json("GET", path, params=given)
            yield from page["data"]
            if not page["has_more"]:
                return
            given["after"] = page["data"][-1]["id"]

    def _json(self, method: str, path: str, **request: object) -> dict[str, Any]:
        response = self._answer(method, path, **request)
        try:
            return cast("dict[str, Any]", response.json())
        except ValueError as error:
            msg = f"{response.url} answered {response.status_code}, but not as this service does; is the URL right?"
            raise ApiError(msg, code="http_error", status=response.status_code) from error

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:  # noqa: ANN401 -- httpx's own options
        """Send a request, and retry it when the connection fails: every request here may be repeated."""
        for attempt in range(_ATTEMPTS):
            try:
                response = self._http.request(method, path, **request)
            except httpx.TransportError as error:
                # Without a connection there is probably no service; one that dropped the connection may be restarting.
                if isinstance(error, httpx.ConnectError) or attempt == _ATTEMPTS - 1:
                    raise _unreachable(self.url, error) from error
                time.sleep(_FIRST_WAIT * 2**attempt)
            else:
                _require_success(response)
                return response
        raise AssertionError

    def _stream(self, method: str, path: str, **request: Any) -> AbstractContextManager[httpx.Response]:  # noqa: ANN401
        timeout = httpx.Timeout(self._http.timeout.connect, read=_EVENTS_SILENCE)
        return self._http.stream(method, path, timeout=timeout, **request)


class _NothingLeft(Exception):
    """The client has already seen the job's last event."""


def _require_success(response: httpx.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        problem = response.json()
        parts = [str(problem[part]) for part in ("title", "detail") if problem.get(part)]
        problems = [Problem(str(entry["field"]), str(entry["message"])) for entry in problem.get("errors") or ()]
        code = str(problem.get("code", "http_error"))
    except (ValueError, AttributeError, KeyError, TypeError):  # not a response of this service, perhaps a proxy's
        parts, problems, code = [f"{response.url} answered {response.status_code}"], [], "http_error"
    raise ApiError(": ".join(parts), code=code, status=response.status_code, problems=problems)


def _unreachable(url: str, error: Exception | None) -> ApiError:
    if isinstance(error, ApiError):
        return error
    reason = str(error) or type(error).__name__ if error is not None else "the event stream keeps ending"
    return ApiError(f"no service answers at {url} ({reason}); start one with `intff serve`, or name it with --url")


def _image_type(file: Path) -> str:
    return _IMAGE_TYPES.get(file.suffix.lower(), "application/octet-stream")
