"""Who is asking: an API key becomes the owner of what it makes; where there never was a key, nobody is asked."""

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
    """The SHA-256 of the key it came with; None while the service is open."""


class Way(NamedTuple):
    """How a request came to this process; what matters only while the service is open."""

    address: str | None = None
    """This machine's address that it came in by; None for a unix socket. The settings know only where the server was
    meant to listen, and its own command line may say otherwise."""
    host: str | None = None
    """Its Host header. Without keys it has to name this machine: a page of another site whose name was made to point
    here would otherwise read and do everything."""
    is_forwarded: bool = False
    """Whether a proxy says that it passes on somebody else's request, who may be anywhere."""


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
        owners: the owner behind each valid key, by the key's SHA-256; None when the service is open.
        way: how the request came.

    Raises:
        Unauthorized: the header carries no valid key, or there are no keys at all and the
            request came from beyond this machine.
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
        msg = "this service asks for an API key; send one as 'Authorization: Bearer KEY'"
        raise Unauthorized(msg)
    digest = key_hash(key.strip())
    # Every key is compared, so that the time taken says nothing about which one came close.
    found = [owner for known, owner in owners.items() if hmac.compare_digest(digest, known)]
    if not found:
        msg = "the API key is not one of those that are valid here"
        raise Unauthorized(msg)
    return Caller(found[0], digest)
