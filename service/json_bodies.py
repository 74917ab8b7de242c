"""Unambiguous JSON: plain UTF-8, and no duplicate keys. NaN passes here; the field's own validation refuses it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import Any

from fastapi import Request

from service.errors import InvalidRequest, UnsupportedMediaType


class StrictRequest(Request):
    """A request whose JSON every parser reads the same way."""

    async def json(self) -> Any:  # noqa: ANN401 -- as the framework's own
        """The parsed body.

        Raises:
            json.JSONDecodeError: it is not JSON.
            InvalidRequest: an object has a duplicate key, which parsers resolve differently, or an integer has
                thousands of digits.
        """
        if not hasattr(self, "_json"):
            text = (await self.body()).decode()  # RFC 8259: JSON exchanged between programs is UTF-8
            try:
                self._json = json.loads(text, object_pairs_hook=_object)
            except json.JSONDecodeError:
                raise
            except ValueError as error:  # Python parses no integer of more than 4,300 digits
                msg = "an integer in this JSON has thousands of digits"
                raise InvalidRequest(msg, field="body") from error
        return self._json


def require_single_keys(data: bytes) -> None:
    """Refuse JSON in which an object has a duplicate key; invalid JSON is left to the parser that reads it.

    Raises:
        InvalidRequest: names the key.
    """
    with suppress(ValueError, RecursionError):
        json.loads(data.decode(), object_pairs_hook=_object, parse_int=float)


def require_plain(request: Request) -> None:
    """Refuse a body that is compressed or in another character set, before it is read.

    Raises:
        UnsupportedMediaType: says what is supported.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        msg = f"a body must be sent without Content-Encoding, got {coding[:40]!r}"
        raise UnsupportedMediaType(msg)
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and "json" in media_type and value.strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            msg = f"JSON must be UTF-8, got charset {value[:40]!r}"
            raise UnsupportedMediaType(msg)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        msg = f"an object in this JSON has the key {twice[:80]!r} twice"
        raise InvalidRequest(msg, field="body")
    return found
