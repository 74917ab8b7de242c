"""Authentication: maps an API key to the owner of jobs and models; while no key has ever existed, none is required."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from service.errors import Unauthorized
from store.keys import key_hash
from store.settings import is_loopback
from store.tables import NO_OWNER


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    owner: str
    """Whose jobs and models the request may see."""
    key: str | None
    """The SHA-256 of its API key; None while the service requires no key."""


class Way(NamedTuple):
    """How a request reached this process; it matters only while the service requires no key."""

    address: str | None = None
    """The local address at which it arrived; None for a Unix socket. The settings only know where the server was meant
    to listen, and uvicorn's command line may override that."""
    host: str | None = None
    """Its Host header. Without keys it must name this machine: otherwise a web page from another site could use DNS
    rebinding to control the service."""
    is_forwarded: bool = False
    """Whether a proxy forwarded it, so that the client may be anywhere."""


IN_THIS_PROCESS = Way()

_LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d*)?", re.IGNORECASE)


def caller_of(
    authorization: str | None,
    owners: Mapping[str, str] | None,
    way: Way = IN_THIS_PROCESS,
) -> Caller:
    """Check a request's Authorization header.

    Args:
        authorization: the header, or None.
        owners: the owner behind each valid key, by the key's SHA-256; None while the service requires no key.
        way: how the request reached this process.

    Raises:
        Unauthorized: the header carries no valid key; or there are no keys at all, and the request
            arrived at a non-loopback address, names another host, or was forwarded by a proxy.
    """
    if owners is None:
        if way.address is not None and not is_loopback(way.address):
            msg = "without API keys this service answers on loopback only; make one with 'intff keys create NAME'"
            raise Unauthorized(msg)
        if way.host is not None and not _LOCAL.fullmatch(way.host):
            msg = "without API keys this service answers to the names localhost, 127.0.0.1 and [::1] only"
            raise Unauthorized(msg)
        if way.is_forwarded:
            msg = "without API keys this service answers no proxy; make a key with 'intff keys create NAME'"
            raise Unauthorized(msg)
        return Caller(NO_OWNER, None)
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        msg = "this service requires an API key; send one as 'Authorization: Bearer KEY'"
        raise Unauthorized(msg)
    digest = key_hash(key.strip())
    # Compare every key, so that the time taken does not reveal which one came close.
    found = [owner for known, owner in owners.items() if hmac.compare_digest(digest, known)]
    if not found:
        msg = "the API key is not valid"
        raise Unauthorized(msg)
    return Caller(found[0], digest)
