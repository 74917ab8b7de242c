"""Limits on a request body: its declared length, its actual length, and how slowly it arrives."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import problem_response

_LARGE = "/predict"  # the one route that takes images
_MOST_ELSEWHERE = 2**20  # a job's request is a few kilobytes; parsing a larger one would block all other requests
_FIRST_SECONDS = 20.0  # for a body's first bytes
_BYTES_PER_SECOND = 16 * 1024  # slower than any real connection; 32 MiB may take half an hour


class BodyRefused(HTTPException):
    """The body is too large or too slow."""


class BodyLimit:
    """Middleware that stops reading a body that is too large or too slow; routes that read no body are unaffected.

    FastAPI's own limit answers in plain text when the length was declared; this one always answers with
    a problem document.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app = app
        self.most = most

    def _most_of(self, path: str) -> int:
        return self.most if path.endswith(_LARGE) else min(self.most, _MOST_ELSEWHERE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        most = self._most_of(scope["path"])
        too_large = BodyRefused(413, f"a body may have at most {most:,} bytes here", {"Connection": "close"})
        began = asyncio.get_running_loop().time()
        arrived = 0
        answered = False
        is_whole = False

        async def limited_receive() -> Message:
            nonlocal arrived, is_whole
            if answered or is_whole:  # event streams listen for the client's disconnect; the body no longer matters
                return await receive()
            if declared.isdigit() and int(declared) > most:
                raise too_large
            try:
                async with asyncio.timeout_at(began + _FIRST_SECONDS + arrived / _BYTES_PER_SECOND):
                    message = await receive()
            except TimeoutError:
                detail = f"the body arrived too slowly: {arrived:,} bytes in {_FIRST_SECONDS:.0f} seconds or more"
                raise BodyRefused(408, detail, {"Connection": "close"}) from None
            arrived += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if arrived > most:
                raise too_large
            return message

        async def noting_send(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, limited_receive, noting_send)
        except BodyRefused as refused:  # raised outside the framework's own exception handlers
            code = "payload_too_large" if refused.status_code == too_large.status_code else "too_slow"
            response = problem_response(code, refused.detail, scope["path"], headers=refused.headers)
            await response(scope, receive, noting_send)
