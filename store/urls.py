"""URLs of the database and the broker: refused at the start in one sentence that shows no password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_REMEDY = "in a password, '/', '?', '#', '@' and ':' are written %2F, %3F, %23, %40 and %3A"


def require_database_url(url: str) -> None:
    """Check what can be known without asking the server.

    Raises:
        ValueError: it is no URL of SQLite or PostgreSQL, or names no database.
    """
    if url.startswith("sqlite:///"):
        return
    if not url.startswith(("postgresql://", "postgresql+psycopg://")):
        msg = "it must begin with sqlite:/// or postgresql://"
        raise ValueError(msg)
    if not _split(url).path.strip("/"):
        msg = "it must name a database, as in postgresql://USER:PASSWORD@HOST:5432/NAME"
        raise ValueError(msg)


def require_broker_url(url: str) -> None:
    """Check what can be known without asking the server.

    Raises:
        ValueError: it is no URL of Redis or Valkey.
    """
    if url.startswith("redis+socket:///"):
        return
    if not url.startswith(("redis://", "rediss://")):
        msg = "it must begin with redis://, rediss:// or redis+socket:///"
        raise ValueError(msg)
    if not re.fullmatch(r"/?\d*", _split(url).path):
        msg = f"it must end in the number of a database, as in redis://HOST:6379/0; {_REMEDY}"
        raise ValueError(msg)


def without_password(url: str) -> str:
    """A URL as it may be shown: up to the last `@`, which a password may hold as well, nothing of it is left."""
    return re.sub(r"(?<=://).*@", "***@", url, flags=re.DOTALL)


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        _ = parts.port
        is_whole = parts.netloc.count("@") <= 1 and "@" not in parts.path and not parts.fragment
    except ValueError:
        is_whole = False
    if not is_whole:
        msg = f"its host and port cannot be told; {_REMEDY}"
        raise ValueError(msg)
    return parts
