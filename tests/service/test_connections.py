"""Who is answered has to take the answer; requests' heads are in tests/faults/test_attacks_rude.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service import connections

SIZE = 16 * 1024 * 1024  # more than the system holds for both sides


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with much."""
    del receive
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % SIZE)]})
        await send({"type": "http.response.body", "body": bytes(SIZE)})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, uvicorn.Server]]:
    """A connection that has asked for it, and its server."""
    monkeypatch.setattr(connections, "TAKING_SECONDS", 1.0)
    config = uvicorn.Config(large, port=0, http=connections.Connection, ws="none", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        with socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            yield connection, server
    finally:
        server.should_exit = True
        thread.join()


def test_who_takes_nothing_is_left(asked: tuple[socket.socket, uvicorn.Server]) -> None:
    connection, server = asked
    taken = len(connection.recv(1))
    deadline = time.monotonic() + 20
    while server.server_state.connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while piece := connection.recv(65536):  # what the system had taken already, and then no more
        taken += len(piece)
    assert taken < SIZE


def test_who_takes_slowly_is_told_all(asked: tuple[socket.socket, uvicorn.Server]) -> None:
    connection, _ = asked
    began, taken = time.monotonic(), 0
    while taken < SIZE:
        piece = connection.recv(512 * 1024, socket.MSG_WAITALL if taken + 512 * 1024 < SIZE else 0)
        assert piece
        taken += len(piece)
        time.sleep(0.08)
    assert time.monotonic() - began > 2.0
