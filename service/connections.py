"""One client's connection: uvicorn's own protocol, with limits on a request's head and on an answer's taking.

`uvicorn service.app:app --http service.connections:Connection` uses it, as `intff serve` and the image do.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import problem_response

# An idle connection is kept longer than clients (5 seconds, httpx) and proxies (60) keep theirs: who closes
# first decides whether a request can be lost that was on its way at that moment.
SERVER_OPTIONS = ("--http", "service.connections:Connection", "--ws", "none", "--timeout-keep-alive", "65")
"""Of uvicorn's command line, wherever the API is started."""

HEAD_SECONDS = 10.0
"""From the first byte of a request, or from a connection's beginning, to the end of its headers."""
HEAD_BYTES = 64 * 1024
TAKING_SECONDS = 60.0
"""In which who is answered takes something of what waits for him."""

_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeadTooLarge(ValueError):
    """The request line and the headers have more than `HEAD_BYTES`; the parser turns this into a 400."""


class Connection(HttpToolsProtocol):
    """Closes on who sends half a head, a byte a second of one, or one without end, and on who takes no answer.

    Each would keep memory and a file handle for as long as it likes.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        super().__init__(*arguments, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._has_head = False
        self._is_in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks."""
        self._stop_clock()
        self._stop_taking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, unless the head is too large by now."""
        if not self._has_head:
            self._start_clock()
            data = _without_upgrade(data)
        if self._is_in_head:  # the parser keeps an unfinished header to itself
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_message_begin(self) -> None:
        """A request's first byte is here."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The head is whole: the application goes on."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES:
            raise HeadTooLarge
        self._has_head, self._is_in_head = True, False
        self._stop_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes now is the next request's head."""
        super().on_message_complete()
        self._has_head = False

    def pause_writing(self) -> None:
        """There is more to be taken than the connection will hold: from now on somebody has to take it."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """Nearly all of it was taken."""
        super().resume_writing()
        self._stop_taking()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as a problem document like any other refusal, and close."""
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
    """The same head without an offer to go over to another protocol, which a server may ignore (RFC 9110, 7.8).

    This one speaks no other, but the parser would leave out the request's body. Java's HTTP client, for one, offers
    HTTP/2 with its first request.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    if _UPGRADE.search(head) is None:
        return data
    return _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]
