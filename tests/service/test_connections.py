"""Answers that nobody takes, offers of other protocols; slow heads are in tests/faults/test_attacks_rude.py."""

from __future__ import annotations

import json
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


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the method and the body."""
    if scope["type"] == "http":
        body, is_whole = b"", False
        while not is_whole:
            message = await receive()
            body += message.get("body", b"")
            is_whole = not message.get("more_body", False)
        answer = scope["method"].encode() + b" " + body
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


OFFER = b"Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.mark.parametrize("cut", ["nowhere", "after the head", "within the head"])
def test_an_offer_of_another_protocol_is_ignored(cut: str, serve: Any) -> None:
    """As Java's HTTP client makes with its first request, whose body was lost with it."""
    head = b"POST / HTTP/1.1\r\ncontent-length: 23\r\n" + OFFER + b"\r\n"
    whole = head + b"a\r\nupgrade: of the body"
    at = {"nowhere": len(whole), "after the head": len(head), "within the head": head.index(b"HTTP2-Settings: ")}[cut]
    with serve(echo) as client, socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as connection:
        for piece in filter(None, (whole[:at], whole[at:])):
            connection.sendall(piece)
            time.sleep(0.1)
        assert connection.recv(PIECE).endswith(b"POST a\r\nupgrade: of the body")
        connection.sendall(b"GET / HTTP/1.1\r\n" + OFFER + b"\r\n")
        assert connection.recv(PIECE).endswith(b"\r\n\r\nGET ")


def test_what_is_no_http_is_refused_as_a_problem(serve: Any) -> None:
    with serve(echo) as client, socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as connection:
        connection.sendall(b"NOT HTTP\r\n\r\n")
        head, _, body = connection.recv(PIECE).partition(b"\r\n\r\n")
        assert connection.recv(1) == b""
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
