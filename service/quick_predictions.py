"""A fast path for small predictions that bypasses the framework, which takes several times as long as the model."""

from __future__ import annotations

import asyncio
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intff.errors import IntffError
from service.access import id_of, note_answer
from service.batches import Batches
from service.dependencies import sign_in
from service.image_bodies import SMALL_BYTES, ImageBody, Kind
from service.metrics import Metrics
from service.parts import Parts
from service.prediction import ServedModel
from service.routes.predictions import PATH, is_quick, written

_BEFORE_NAME, _AFTER_NAME = PATH.split("{model}")
_PATH = re.compile(f"{_BEFORE_NAME}([^/]+){_AFTER_NAME}")
_KINDS: dict[bytes, Kind] = {
    b"application/json": "json",
    b"application/json; charset=utf-8": "json",
    b"application/octet-stream": "raw",
    b"image/png": "files",
}
_PATIENCE_SECONDS = 1.0  # a slower body goes to the route, where its speed is limited


class QuickPredictions:
    """Middleware in front of the framework: answers small, valid requests, and passes everything else on.

    A request that it cannot answer (a model that is not in memory, an invalid image, a form) reaches
    the route unchanged, so that each error and each unusual case is handled in one place only.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self._batches = Batches()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = _small_kind(scope)
        served = None if kind is None else _find(scope)
        if kind is None or served is None:
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        arrived, is_whole = await _read(receive)
        body = ImageBody(kind, [b"".join(message.get("body", b"") for message in arrived)], ["body"])
        answer = await self._answer(served, body, scope) if is_whole else None
        if answer is None:
            await self.app(scope, _again(arrived, receive), send)
            return
        request_id = id_of(scope)
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer)).encode()),
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})
        note_answer(self.metrics, scope, PATH, 200, perf_counter() - began, request_id=request_id)

    async def _answer(self, served: ServedModel, body: ImageBody, scope: Scope) -> bytes | None:
        if not is_quick(served, body):
            return None
        try:
            images = body.decode(served.image_shape, "auto", scope["app"].state.parts.image_limits)
            answer = written(served, await self._batches.predict(served, images))
        except Exception:  # noqa: BLE001 -- the route will raise it again and turn it into a response
            return None
        self.metrics.saw_predictions(len(images))
        return answer


def _small_kind(scope: Scope) -> Kind | None:
    """The kind of body of a small prediction request; None for any other request."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
        return None
    if not scope["path"].endswith(_AFTER_NAME):
        return None
    kind, length = None, b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = _KINDS.get(value)
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding":
            return None
    is_small = length.isdigit() and int(length) <= min(SMALL_BYTES, scope["app"].state.parts.settings.max_body_bytes)
    return kind if is_small else None


def _find(scope: Scope) -> ServedModel | None:
    """The model that the path names, if the request's key may use it and it is in memory."""
    found = _PATH.fullmatch(scope["path"])
    if found is None:
        return None
    parts: Parts = scope["app"].state.parts
    try:
        return parts.predictor.at_hand(found[1], sign_in(scope, parts).owner)
    except IntffError:  # the route will raise it again
        return None


async def _read(receive: Receive) -> tuple[list[Message], bool]:
    """What arrives of the body within a short time, and whether it is complete."""
    first = _at_once(receive)
    arrived = [] if first is None else [first]
    try:
        if not arrived or arrived[-1].get("more_body"):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not arrived or arrived[-1].get("more_body"):
                    arrived.append(await receive())
    except TimeoutError:
        return arrived, False
    return arrived, arrived[-1]["type"] == "http.request"


def _at_once(receive: Receive) -> Message | None:
    """The message if it has already arrived, as most have: setting up a timeout takes longer than reading it.

    If none has arrived, the coroutine is closed, as a timeout would do, and `receive` may be called again.
    """
    asked = receive().__await__()
    try:
        next(asked)
    except StopIteration as arrived:
        message: Message = arrived.value
        return message
    asked.close()
    return None


def _again(arrived: list[Message], receive: Receive) -> Receive:
    """A `receive` that replays the given messages and then returns new ones."""
    rest = iter(arrived)

    async def receive_again() -> Message:
        message = next(rest, None)
        return message if message is not None else await receive()

    return receive_again
