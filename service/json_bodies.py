"""JSON that means one thing only: plain UTF-8, and no key twice. NaN passes: its field refuses it later, by name."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import Any

from fastapi import Request

from service.errors import InvalidRequest, UnsupportedMediaType


class StrictRequest(Request):
    """A request whose JSON means the same to every program that reads it."""

    async def json(self) -> Any:  # noqa: ANN401 -- as the framework's own
        """The parsed body.

        Raises:
            json.JSONDecodeError: it is no JSON.
            InvalidRequest: an object has a key twice, so that it depends on the reader what it says, or an
                integer has thousands of digits.
        """
        if not hasattr(self, "_json"):
            text = (await self.body()).decode()  # RFC 8259: between programs it is UTF-8
            try:
                self._json = json.loads(text, object_pairs_hook=_object)
            except json.JSONDecodeError:
                raise
            except ValueError as error:  # Python reads no integer of more than 4,300 digits
                msg = "an integer of this JSON has thousands of digits"
                raise InvalidRequest(msg, field="body") from error
        return self._json


def require_single_keys(data: bytes) -> None:
    """Refuse JSON in which an object has a key twice; what is no JSON at all is left to who reads it.

    Raises:
        InvalidRequest: naming the key.
    """
    with suppress(ValueError, RecursionError):
        json.loads(data.decode(), object_pairs_hook=_object, parse_int=float)


def require_plain(request: Request) -> None:
    """Refuse a body that is compressed or in another character set, before it is read.

    Raises:
        UnsupportedMediaType: naming what would do.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        msg = f"a body is read as it is, without Content-Encoding, got {coding[:40]!r}"
        raise UnsupportedMediaType(msg)
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and "json" in media_type and value.strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            msg = f"JSON is read as UTF-8, got charset {value[:40]!r}"
            raise UnsupportedMediaType(msg)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        msg = f"an object of this JSON has the key {twice[:80]!r} twice"
        raise InvalidRequest(msg, field="body")
    return found
