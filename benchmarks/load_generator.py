"""Keeps a fixed number of connections busy with one request each, and measures the latency of the answers.

It is a separate process on raw sockets and epoll with as little work per request as possible, so
that it measures the server. It reads its parameters as JSON from standard input and writes JSON.
"""

from __future__ import annotations

import base64
import gc
import json
import select
import socket
import sys
from array import array
from time import perf_counter, process_time
from typing import Any

_WARM_UP_SECONDS = 0.3
_CHUNK = 65536


def main() -> None:
    """Run one load test."""
    orders = json.loads(sys.stdin.read())
    json.dump(
        load(orders["port"], base64.b64decode(orders["request"]), orders["concurrency"], orders["seconds"]), sys.stdout
    )


def load(port: int, request: bytes, concurrency: int, seconds: float) -> dict[str, Any]:
    """Send `request` over each connection repeatedly, each time as soon as the previous answer has arrived.

    Returns:
        Answers per second, latency quantiles in seconds, failures, and this process's CPU usage.
    """
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(concurrency)]
    poll = select.epoll()
    by_number = {}
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection.fileno(), select.EPOLLIN)
        by_number[connection.fileno()] = connection
    gc.disable()
    warm_up, _ = _pump(poll, by_number, request, _WARM_UP_SECONDS)
    began, cpu = perf_counter(), process_time()
    latencies, failures = _pump(poll, by_number, request, seconds)
    wall, cpu = perf_counter() - began, process_time() - cpu
    for connection in connections:
        connection.close()
    ordered = sorted(latencies)
    return {
        "requests_per_second": len(ordered) / wall,
        "all_requests": len(ordered) + len(warm_up),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "failures": failures,
        "cpu_share": cpu / wall,
    }


def _pump(
    poll: select.epoll, connections: dict[int, socket.socket], request: bytes, seconds: float
) -> tuple[array[float], int]:
    latencies, failures = array("d"), 0
    sent: dict[int, float] = {}
    missing: dict[int, int] = {}
    for number, connection in connections.items():
        sent[number] = perf_counter()
        connection.sendall(request)
    busy = len(connections)
    until = perf_counter() + seconds
    while busy:
        for number, _ in poll.poll():
            connection = connections[number]
            arrived = connection.recv(_CHUNK)
            if not arrived:
                msg = "the server closed a connection"
                raise ConnectionError(msg)
            left = missing.pop(number, None)
            if left is None:
                failures += not arrived.startswith(b"HTTP/1.1 200")
                left = _length(arrived)
            left -= len(arrived)
            if left > 0:
                missing[number] = left
                continue
            now = perf_counter()
            latencies.append(now - sent[number])
            if now < until:
                sent[number] = now
                connection.sendall(request)
            else:
                busy -= 1
    return latencies, failures


def _length(start: bytes) -> int:
    """The length of an answer, head and body; the head is assumed to arrive in one piece."""
    head = start.index(b"\r\n\r\n") + 4
    at = start[:head].lower().index(b"content-length:") + 15
    return head + int(start[at : start.index(b"\r\n", at)])


if __name__ == "__main__":
    main()
