"""Slow and rude clients are sent away, and others' predictions hardly notice them."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.connections import HEAD_BYTES, HEAD_SECONDS
from tests.faults import rude_clients
from tests.faults.attacks import IMAGE, SPEC, Target, attacked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

ROUNDS, REQUESTS = 5, 1500


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("rude")) as target:
        target.publish()
        yield target


class Crowd:
    """The process that rude clients are."""

    def __init__(self, port: int, model: str, jobs: list[str]) -> None:
        command = [sys.executable, str(Path(rude_clients.__file__)), str(port), model, *jobs]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, word: str, answer: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == f"{answer}\n"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def connections(target: Target) -> int:
    """How many the API holds open with clients."""
    found = psutil.Process(target.api.pid).net_connections("tcp4")
    return sum(1 for each in found if each.laddr[1] == target.port and each.status != psutil.CONN_LISTEN)


def slowest_hundredth(port: int) -> float:
    """The 99th percentile of predictions, one after the other on one connection, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body, headers = json.dumps({"images": [IMAGE]}), {"Content-Type": "application/json"}
    seconds = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        connection.request("POST", "/v1/models/latest/predict", body, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        seconds.append(time.perf_counter() - began)
    connection.close()
    return statistics.quantiles(seconds, n=100)[98]


@pytest.mark.alone
def test_predictions_keep_their_pace_in_a_rude_crowd(target: Target, record_property: Any) -> None:
    """Interleaved rounds without and with the crowd; the medians of their 99th percentiles are compared."""
    with httpx.Client(base_url=target.url) as client:
        jobs = [client.post("/v1/jobs", json={"spec": SPEC}).json()["id"] for _ in range(20)]
        slowest_hundredth(target.port)
        connected = connections(target)
        alone, crowded = [], []
        crowd = Crowd(target.port, "latest", jobs)
        try:
            for _ in range(ROUNDS):
                alone.append(slowest_hundredth(target.port))
                crowd.tell("start", "ready")
                assert connections(target) - connected >= rude_clients.STREAMS
                time.sleep(1)
                crowded.append(slowest_hundredth(target.port))
                crowd.tell("stop", "gone")
                time.sleep(0.5)
        finally:
            crowd.close()
        before, during = statistics.median(alone), statistics.median(crowded)
        figure = f"p99 {1000 * before:.1f} ms alone, {1000 * during:.1f} ms among 652 rude clients"
        record_property("fault", ["slow and rude clients", ROUNDS, figure])
        assert during <= 2 * before, figure
        deadline = time.monotonic() + 10
        while connections(target) > connected:
            assert time.monotonic() < deadline, "connections are left open"
            time.sleep(0.1)
        assert "request_failed" not in target.log.read_text()


def opened_for(target: Target, data: bytes, drip: bytes = b"") -> tuple[float, bytes]:
    """How long a connection stays open for who sends this, and then a little each second; and the answer."""
    began = time.monotonic()
    with target.connect() as raw:
        raw.sendall(data)
        raw.settimeout(1)
        answer = b""
        while time.monotonic() - began < 75:
            try:
                part = raw.recv(65536)
            except TimeoutError:
                try:
                    raw.sendall(drip)
                except OSError:
                    break
                continue
            except OSError:
                break
            if not part:
                break
            answer += part
        return time.monotonic() - began, answer


def test_who_is_too_slow_is_sent_away(target: Target) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n"
    cases: dict[str, tuple[bytes, bytes, float, bytes]] = {
        "nothing": (b"", b"", HEAD_SECONDS, b"408"),
        "half a head": (head, b"", HEAD_SECONDS, b"408"),
        "a byte of the head a second": (head, b"x", HEAD_SECONDS, b"408"),
        "empty lines": (b"\r\n", b"\r\n", HEAD_SECONDS, b"408"),
        "half a body": (head + b"\r\n{", b"", 20, b"408"),
        "a byte of the body a second": (head + b"\r\n{", b" ", 20, b"408"),
        "half of the second request": (
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal",
            b"",
            65,
            b"200",
        ),
        "a kept connection": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"", 65, b"200"),
    }
    with ThreadPoolExecutor(len(cases)) as pool:
        ends = {name: pool.submit(opened_for, target, data, drip) for name, (data, drip, *_) in cases.items()}
    for name, (_, _, seconds, status) in cases.items():
        lasted, answer = ends[name].result()
        assert seconds - 2 < lasted < seconds + 5, (name, lasted)
        assert status in answer.split(b"\r\n")[0], (name, answer[:200])


def test_a_head_without_end_is_cut_off(target: Target) -> None:
    with target.connect() as raw:
        sent = 0
        try:
            raw.sendall(b"GET / HTTP/1.1\r\nX: ")
            while sent < 100 * HEAD_BYTES:
                sent += raw.send(b"x" * 1024)
                time.sleep(0.0005)
        except OSError:
            pass
    assert sent < 20 * HEAD_BYTES


def test_a_head_of_an_ordinary_size_and_a_body_of_a_large_one_pass_on_one_connection(target: Target) -> None:
    with httpx.Client(base_url=target.url) as client:
        for _ in range(5):
            assert client.get("/healthz", headers={"X-Long": "x" * 30_000}).status_code == 200
            body = {"images": [IMAGE] * 500}
            assert client.post("/v1/models/latest/predict", json=body).status_code == 200
            assert client.post("/v1/models/latest/predict", content=b" " * 2**20).status_code == 415
