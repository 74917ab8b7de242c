"""The routes' dependencies as named types: database sessions, the caller, path parameters and the shared parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from sqlalchemy.orm import Session
from starlette.types import Scope

from service.auth import Caller, Way
from service.json_bodies import StrictRequest, require_plain
from service.parts import Parts
from service.schemas.models import ALIAS_PATTERN
from store.errors import NotFound
from store.ids import is_id

_bearer = HTTPBearer(auto_error=False, description="Required once the service has API keys.")
_name = re.compile(ALIAS_PATTERN)
_CALLER = "caller"
_OF_PROXIES = {b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"}


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


async def _path_prefix(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


PathPrefixDep = Annotated[str, Depends(_path_prefix)]
"""The path prefix that a proxy removes (uvicorn's --root-path); every path in a response must begin with it."""

_IN_PROCESS = "testserver"
"""What FastAPI's TestClient gives as the server's address; a real server gives its socket's."""


def sign_in(scope: Scope, parts: Parts) -> Caller:
    """Check a request's key and count it against the rate limit, once per request; returns the caller.

    Raises:
        Unauthorized: it carries no valid key.
        RateLimited: its key has sent too many requests.
    """
    state: dict[str, Any] = scope.setdefault("state", {})
    if _CALLER not in state:
        address, port = scope.get("server") or (None, None)
        is_in_process = address == _IN_PROCESS
        given = host = None
        is_forwarded = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value.decode("latin-1")
            elif name == b"host" and not is_in_process:
                host = value.decode("latin-1")
            elif name in _OF_PROXIES:
                is_forwarded = True
        reached_at = None if port is None or is_in_process else address  # a Unix socket has a path and no port
        caller = parts.keyring.caller_of(given, Way(reached_at, host, is_forwarded))
        if caller.key is not None:
            parts.rate_limit.take(caller.key)
        state[_CALLER] = caller
    found: Caller = state[_CALLER]
    return found


class SignedInRoute(APIRoute):
    """A route that requires a key, and checks it before any of the request's body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's own handler, behind the key check."""
        handle = super().get_route_handler()
        takes_body = self.body_field is not None or "requestBody" in (self.openapi_extra or {})

        async def check_and_handle(request: Request) -> Response:
            sign_in(request.scope, request.app.state.parts)
            if takes_body:
                require_plain(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return check_and_handle


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"][_CALLER]  # only set on signed-in routes; any other fails here
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


async def _owner(request: Request) -> str:
    owner: str = request.scope["state"][_CALLER].owner
    return owner


OwnerDep = Annotated[str, Depends(_owner)]

SIGNED_IN: dict[str, Any] = {"route_class": SignedInRoute, "dependencies": [Depends(_bearer)]}
"""For routers: every route requires a key, and is documented accordingly."""


def _session(parts: PartsDep) -> Iterator[Session]:
    with parts.sessions() as session:
        yield session


def _read_session(parts: PartsDep) -> Iterator[Session]:
    with parts.read_sessions() as session:
        yield session


# Closed when the route returns, not after the response was sent: a slow client must not hold a database connection.
SessionDep = Annotated[Session, Depends(_session, scope="function")]
ReadSessionDep = Annotated[Session, Depends(_read_session, scope="function")]


async def _job_id(job_id: Annotated[str, Path(description="A job's id.", examples=["job_06f2k4m8"])]) -> str:
    if not is_id(job_id, "job"):  # also keeps characters that the database cannot store out of the query
        msg = f"there is no job {job_id!r}"
        raise NotFound(msg)
    return job_id


async def _model_name(
    model: Annotated[str, Path(description="A model's id, an alias, or `latest`.", examples=["latest"])],
) -> str:
    if not _name.fullmatch(model):
        msg = f"there is no model and no alias {model!r}"
        raise NotFound(msg)
    return model


# These run after the key was checked, so that a caller without one does not learn what an id looks like.
JobIdDep = Annotated[str, Depends(_job_id)]
ModelNameDep = Annotated[str, Depends(_model_name)]
