"""One client's connection: uvicorn's HTTP protocol, with limits on request headers and on clients that do not read.

`uvicorn service.app:app --http service.connections:Connection` uses it, as `intff serve` and the image do.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import problem_response

# An idle connection is kept longer than clients (httpx: 5 seconds) and proxies (60 seconds) keep theirs: if the
# server closed it first, a request already on its way could be lost.
SERVER_OPTIONS = ("--http", "service.connections:Connection", "--ws", "none", "--timeout-keep-alive", "65")
"""Options of uvicorn's command line, wherever the API is started."""

HEAD_SECONDS = 10.0
"""Time limit from a connection's start, or a request's first byte, to the end of the headers."""
HEAD_BYTES = 64 * 1024
TAKING_SECONDS = 60.0
"""How long a client may read nothing of a response that is waiting for it."""

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeadTooLarge(ValueError):
    """The request line and the headers exceed `HEAD_BYTES`; the parser turns this into a 400."""


class Connection(HttpToolsProtocol):
    """Disconnects clients whose headers are incomplete, too slow or too large, and clients that do not read.

    Each of them would otherwise hold memory and a file descriptor for as long as it likes.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*arguments, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._has_head = False
        self._is_in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the timer for the first request's headers."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._stop_clock()
        self._stop_taking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and refuse headers that have grown too large."""
        if not self._has_head:
            self._start_clock()
            data = _without_upgrade(data)
        if self._is_in_head:  # the parser does not report an unfinished header
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request headers are too large.")

    def on_message_begin(self) -> None:
        """Start counting the bytes of a request's headers."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Stop the timer, and let the application handle the request."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            raise HeadTooLarge
        self._has_head, self._is_in_head = True, False
        self._stop_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next request's headers from now on."""
        super().on_message_complete()
        self._has_head = False

    def pause_writing(self) -> None:
        """The write buffer is full: start checking that the client reads."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """The write buffer has drained: stop checking."""
        super().resume_writing()
        self._stop_taking()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem document, and close."""
        problem = problem_response("malformed_request", msg, "/")
        head = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in problem.raw_headers)]
        self.transport.write(b"\r\n".join([*head, b"connection: close", b"", bytes(problem.body)]))
        self.transport.close()

    def _watch_taking(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(TAKING_SECONDS, self._look_at_taking, waiting)

    def _look_at_taking(self, waited: int) -> None:
        if self.transport.get_write_buffer_size() < waited:
            self._watch_taking()
        else:
            self.transport.abort()

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            is_answering = self.cycle is not None and not self.cycle.response_complete
            if not is_answering:
                self.transport.write(_TOO_SLOW)
            self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Remove the Upgrade header, which a server may ignore (RFC 9110, section 7.8): the parser would drop the body.

    Java's HTTP client, for one, offers to upgrade to HTTP/2 in its first request.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if _UPGRADE.search(head) is None:
        return data
    return _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]
