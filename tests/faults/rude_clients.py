"""A crowd of slow and rude clients, as a process of its own: `rude_clients.py PORT MODEL JOB...`, then words on stdin.

`start` lets them all in and answers `ready` once every stream has begun; `stop` sends them away and answers `gone`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

STREAMS, HALF_HEADS, SLOW_HEADS, SLOW_BODIES, LEAVERS = 500, 50, 50, 50, 2


async def idle_stream(port: int, job: str, ready: asyncio.Semaphore) -> None:
    """Follow a job that never moves, and read what comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        await reader.readuntil(b"id: ")
        ready.release()
        while await reader.read(65536):
            pass
    finally:
        writer.close()


async def half_head(port: int) -> None:
    """Send half a head and wait to be thrown out; then come back."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
            await reader.read()
        finally:
            writer.close()


async def slow(port: int, head: bytes) -> None:
    """Send a byte a second."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head)
            while not reader.at_eof():
                writer.write(b"1")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 1)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def leaver(port: int, model: str, job: str) -> None:
    """Go away in the middle: of a stream, of a body, of an answer."""
    body = (
        b"POST /v1/models/%s/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" % model.encode()
    )
    openings = [
        f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
        body + b'Content-Length: 5000\r\n\r\n{"images": [[',
        f"GET /v1/models/{model}/artifacts/model.onnx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
    ]
    while True:
        for opening in openings:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(opening)
            await asyncio.sleep(0.5)
            writer.transport.abort()


async def crowd(port: int, model: str, jobs: list[str]) -> None:
    """Do what standard input says."""
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    head = b"GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "
    body = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
    )
    while word := await words.readline():
        assert word == b"start\n"
        ready = asyncio.Semaphore(0)
        clients = [asyncio.create_task(idle_stream(port, jobs[n % len(jobs)], ready)) for n in range(STREAMS)]
        clients += [asyncio.create_task(half_head(port)) for _ in range(HALF_HEADS)]
        clients += [asyncio.create_task(slow(port, head)) for _ in range(SLOW_HEADS)]
        clients += [asyncio.create_task(slow(port, body)) for _ in range(SLOW_BODIES)]
        clients += [asyncio.create_task(leaver(port, model, jobs[0])) for _ in range(LEAVERS)]
        for _ in range(STREAMS):
            await ready.acquire()
        print("ready", flush=True)  # noqa: T201 -- how this program talks
        assert await words.readline() == b"stop\n"
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        print("gone", flush=True)  # noqa: T201 -- the same


if __name__ == "__main__":
    asyncio.run(crowd(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
