"""Identifiers that sort by time: a prefix, the millisecond, and 80 random bits, in lower-case base 32."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Literal

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u to misread
_LENGTH = 26  # characters of 5 bits each, for 48 bits of time and 80 random ones
_PREFIXES = {"job": "job_", "model": "mdl_", "worker": "wrk_"}

Kind = Literal["job", "model", "worker"]


def new_id(kind: Kind, at: datetime | None = None) -> str:
    """Create an identifier such as `job_01k9z...`.

    Args:
        kind: what it identifies.
        at: the time it sorts by. Rows pass the database's time, so that hosts whose clocks differ
            still create identifiers in order; by default, this host's time.
    """
    moment = at if at is not None else datetime.now(UTC)
    number = int(moment.timestamp() * 1000) << 80 | secrets.randbits(80)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)]
    return _PREFIXES[kind] + "".join(digits)


def id_pattern(kind: Kind) -> str:
    """The format of such an identifier as a regular expression, for the OpenAPI document."""
    return f"^{_PREFIXES[kind]}[{_ALPHABET}]{{{_LENGTH}}}$"


def is_id(text: str, kind: Kind) -> bool:
    """Whether a text has the format of such an identifier."""
    prefix = _PREFIXES[kind]
    digits = text.removeprefix(prefix)
    return text.startswith(prefix) and len(digits) == _LENGTH and set(digits) <= set(_ALPHABET)
