"""Who is answered has to take the answer; requests' heads are in tests/faults/test_attacks_rude.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from service import connections

SIZE = 16 * 1024 * 1024  # more than the system holds for both sides
PIECE = 512 * 1024


class Large:
    """Answers every request with much."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one; the last of it is sent when most was taken, or the connection has ended."""
        del receive
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % SIZE)]})
            await send({"type": "http.response.body", "body": bytes(SIZE - 1), "more_body": True})
            await send({"type": "http.response.body", "body": b"."})
            self.is_over.set()


@pytest.fixture
def large() -> Large:
    return Large()


@pytest.fixture
def asked(large: Large, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A connection that has asked for it."""
    monkeypatch.setattr(connections, "TAKING_SECONDS", 1.0)
    with (
        serve(large) as client,
        socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield connection


def test_who_takes_nothing_is_left(asked: socket.socket, large: Large) -> None:
    taken = len(asked.recv(1))
    assert large.is_over.wait(20)
    while piece := asked.recv(PIECE):  # what the system had taken already, and then no more
        taken += len(piece)
    assert taken < SIZE


def test_who_takes_slowly_is_told_all(asked: socket.socket) -> None:
    began, taken = time.monotonic(), 0
    while taken < SIZE:
        piece = asked.recv(PIECE, socket.MSG_WAITALL if taken + PIECE < SIZE else 0)
        assert piece
        taken += len(piece)
        time.sleep(0.08)
    assert time.monotonic() - began > 2.0
