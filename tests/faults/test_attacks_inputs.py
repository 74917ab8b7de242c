"""Images, bodies and identifiers as nobody should send them: handled, or refused with the rule named; never a 5xx."""

from __future__ import annotations

import gzip
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.faults.attacks import IMAGE, SPEC, Target, attacked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

_MIB = 2**20


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("inputs")) as target:
        target.publish()
        yield target


@pytest.fixture
def client(target: Target) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=target.url, timeout=30) as client:
        yield client
        assert client.post("/v1/models/latest/predict", json={"images": [IMAGE]}).status_code == 200
        assert "request_failed" not in target.log.read_text()


def picture(mode: str, kind: str = "PNG", **options: Any) -> bytes:
    """A light 1 on a dark ground, in any mode and format."""
    pixels = np.zeros((16, 16), np.uint8)
    pixels[2:14, 7:9] = 255
    written = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(written, kind, **options)
    return written.getvalue()


def noise() -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(written, "PNG")
    return written.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG that says it is so large."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def sixteen_bits() -> bytes:
    pixels = np.zeros((16, 16), np.uint16)
    pixels[2:14, 7:9] = 65535
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def animated() -> bytes:
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 128, 255)]
    written = io.BytesIO()
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    return written.getvalue()


def palette_with_transparency() -> bytes:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 0] + [0] * 762)
    image.paste(1, (7, 2, 9, 14))
    written = io.BytesIO()
    image.save(written, "PNG", transparency=0)
    return written.getvalue()


READABLE = {
    "CMYK": ("image/jpeg", picture("CMYK", "JPEG")),
    "16 bits": ("image/png", sixteen_bits()),
    "palette with transparency": ("image/png", palette_with_transparency()),
    "animated": ("image/gif", animated()),
    "1x65000": ("image/png", png(1, 65000, zlib.compress(b"\0\0" * 65000))),
    "65000x1": ("image/png", png(65000, 1, zlib.compress(b"\0" * 65001))),
    "one bit": ("image/png", picture("1")),
    "named something else": ("image/webp", picture("L", "BMP")),
}

REFUSED = {
    "EPS": (picture("L", "EPS"), "a PostScript or PDF document"),
    "SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "TIFF": (picture("L", "TIFF"), "PNG, JPEG, GIF, BMP"),
    "PDF": (picture("L", "PDF"), "a PostScript or PDF document"),
    "zero bytes": (b"", "an empty file"),
    "truncated": (noise()[:3000], "damaged or truncated"),
    "truncated JPEG": (picture("L", "JPEG")[:300], "damaged or truncated"),
    "noise": (bytes(range(256)) * 4, "begins with"),
    "no pixels": (png(0, 0, zlib.compress(b"")), "damaged or truncated"),
    "decompression bomb": (png(50_000, 50_000, zlib.compress(b"\0" * 10**6)), "16,000,000 pixels"),
    "just over the limit": (png(4_001, 4_000, zlib.compress(b"\0")), "16,000,000 pixels"),
}


@pytest.mark.parametrize("name", READABLE)
def test_an_unusual_image_is_read(client: httpx.Client, name: str) -> None:
    media_type, data = READABLE[name]
    answer = client.post("/v1/models/latest/predict", content=data, headers={"Content-Type": media_type})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"][0]["goodness"]) == 10


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_file_is_refused_and_the_rule_named(client: httpx.Client, name: str) -> None:
    data, says = REFUSED[name]
    answer = client.post("/v1/models/latest/predict", content=data, headers={"Content-Type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image")
    assert says in answer.json()["detail"]


def test_a_bomb_is_refused_before_it_is_unpacked(target: Target, client: httpx.Client) -> None:
    bombs = [
        ("image/png", png(60_000, 60_000, zlib.compress(b"\0" * 50 * _MIB))),  # 3.6 billion pixels in 50 kB
        ("image/png", png(4_000, 4_000, zlib.compress(b"\0" * 200 * _MIB))),  # more data than it has pixels
    ]
    client.post("/v1/models/latest/predict", content=READABLE["1x65000"][1], headers={"Content-Type": "image/png"})
    before = target.memory
    for media_type, data in bombs:
        began = time.monotonic()
        answer = client.post("/v1/models/latest/predict", content=data, headers={"Content-Type": media_type})
        assert answer.status_code in {200, 422}
        assert time.monotonic() - began < 5
    # The second is decoded, 16 million pixels; what is not needed of it is not unpacked.
    assert target.memory - before < 200 * _MIB


def test_many_small_files_of_many_pixels_are_refused_before_they_are_decoded(client: httpx.Client) -> None:
    """Sixteen megabytes that would keep a thread busy for minutes."""
    large = png(4_000, 4_000, zlib.compress(b"\0" * 4_001 * 4_000))
    began = time.monotonic()
    answer = client.post("/v1/models/latest/predict", files=[("images", ("1.png", large))] * 1024)
    assert time.monotonic() - began < 10
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    # 1,024 x 4,000 x 4,000
    assert "64,000,000 pixels in total, these have 16,384,000,000" in answer.json()["detail"]


BAD_BODIES: dict[str, tuple[str, str, bytes, int]] = {
    "nested deep": ("/v1/jobs", "application/json", b'{"spec":' + b"[" * 400_000, 422),
    "nested deep and closed": ("/v1/jobs", "application/json", b'{"spec":' + b"[" * 2000 + b"]" * 2000 + b"}", 422),
    "nested deep metadata": (
        "/v1/jobs",
        "application/json",
        b'{"spec":{},"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        422,
    ),
    "nested images": (
        "/v1/models/latest/predict",
        "application/json",
        b'{"images":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        422,
    ),
    "NaN": ("/v1/jobs", "application/json", b'{"spec":{"algorithm":{"kind":"intff","theta":NaN}}}', 422),
    "Infinity": ("/v1/jobs", "application/json", b'{"spec":{"training":{"learning_rate":Infinity}}}', 422),
    "1e999": ("/v1/jobs", "application/json", b'{"spec":{"training":{"learning_rate":1e999}}}', 422),
    "NaN metadata": ("/v1/jobs", "application/json", b'{"spec":{},"metadata":{"a":NaN}}', 422),
    "an integer of 5000 digits": (
        "/v1/jobs",
        "application/json",
        b'{"spec":{"training":{"seed":' + b"9" * 5000 + b"}}}",
        422,
    ),
    "NaN pixel": (
        "/v1/models/latest/predict",
        "application/json",
        json.dumps({"images": [[float("nan")] * 64]}).encode(),
        422,
    ),
    "Infinity pixel": (
        "/v1/models/latest/predict",
        "application/json",
        json.dumps({"images": [[float("inf")] * 64]}).encode(),
        422,
    ),
    "wrong type": ("/v1/jobs", "text/plain", json.dumps({"spec": SPEC}).encode(), 415),
    "a form": ("/v1/jobs", "application/x-www-form-urlencoded", b"spec=1", 415),
    "wrong type of image": ("/v1/models/latest/predict", "video/mp4", b"\0" * 64, 415),
    "wrong charset": ("/v1/jobs", "application/json; charset=utf-16", json.dumps({"spec": SPEC}).encode("utf-16"), 415),
    "latin-1": ("/v1/jobs", "application/json", b'{"spec":{},"name":"caf\xe9"}', 422),
    "a lone surrogate": ("/v1/jobs", "application/json", b'{"spec":{},"name":"\\ud800"}', 422),
    "NUL in the name": ("/v1/jobs", "application/json", b'{"spec":{},"name":"a\\u0000b"}', 422),
    "compressed": ("/v1/jobs", "application/json", gzip.compress(json.dumps({"spec": SPEC}).encode()), 415),
    "compressed images": (
        "/v1/models/latest/predict",
        "application/json",
        gzip.compress(json.dumps({"images": [IMAGE]}).encode()),
        415,
    ),
    "a form without end": ("/v1/models/latest/predict", "multipart/form-data; boundary=x", b"--x\r\nContent-Dis", 422),
    "a form without boundary": ("/v1/models/latest/predict", "multipart/form-data", b"--x\r\n\r\n", 422),
    "nothing": ("/v1/jobs", "application/json", b"", 422),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused(client: httpx.Client, name: str) -> None:
    path, media_type, body, status = BAD_BODIES[name]
    headers = {"Content-Type": media_type} | ({"Content-Encoding": "gzip"} if "compressed" in name else {})
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 20_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"spec":{"dataset":"digits"},"spec":{"dataset":"mnist"}}', "spec"),
        (b'{"spec":{"dataset":"digits","training":{"epochs":1,"epochs":9}}}', "epochs"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(client: httpx.Client, body: bytes, field: str) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert repr(field) in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models/latest/predict", "/v1/aliases/a"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(target: Target, path: str, *, chunked: bool) -> None:
    most = 32 * _MIB if path.endswith("predict") else _MIB
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        while sent < 4 * most:
            sent += 65536
            yield b" " * 65536

    headers = {"Content-Type": "application/json"} | ({} if chunked else {"Content-Length": str(4 * most)})
    before = target.memory
    with httpx.Client(base_url=target.url, timeout=30) as client:
        method = "PUT" if "aliases" in path else "POST"
        try:
            answer = client.request(method, path, content=parts(), headers=headers)
        except httpx.WriteError:  # the answer came and the connection closed while more was on its way
            pass
        else:
            assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
            assert f"{most:,} bytes" in answer.json()["detail"]
    assert sent < 2 * most + 16 * _MIB
    assert target.memory - before < 2 * most + 32 * _MIB


IDS = [
    "%00",
    "..%2F..%2Fetc%2Fpasswd",
    "..%5C..%5C",
    "%2e%2e",
    "'%20OR%20'1'='1",
    "1;DROP%20TABLE%20jobs--",
    "%27%22%3B--",
    "x" * 10_000,
    "%F0%9F%98%80",
    "%ED%A0%80",
    "%FF",
    "mdl_00000000000000000000000000%0A",
    "latest%00",
    "%7B%7B7*7%7D%7D",
]


@pytest.mark.parametrize("given", IDS, ids=lambda given: given[:20])
def test_a_wrong_identifier_is_a_404_or_422(client: httpx.Client, given: str) -> None:
    for method, path in (
        ("GET", f"/v1/jobs/{given}"),
        ("GET", f"/v1/jobs/{given}/metrics"),
        ("GET", f"/v1/jobs/{given}/events"),
        ("POST", f"/v1/jobs/{given}/cancel"),
        ("GET", f"/v1/models/{given}"),
        ("GET", f"/v1/models/latest/artifacts/{given}"),
        ("POST", f"/v1/models/{given}/predict"),
        ("PUT", f"/v1/aliases/{given}"),
        ("GET", f"/v1/jobs?after={given}"),
        ("GET", f"/v1/models?after={given}"),
    ):
        body = {"model": given[:100]} if method == "PUT" else {"images": [IMAGE]} if "predict" in path else None
        answer = client.request(method, path, json=body)
        assert answer.status_code in {404, 422}, (path[:80], answer.text[:300])
        assert answer.headers["content-type"] == "application/problem+json"


def test_names_in_queries_and_headers_are_text_and_no_sql(client: httpx.Client) -> None:
    for name in ("' OR 1=1 --", "%", "_", "\\", "é" * 100):
        assert client.get("/v1/jobs", params={"name": name}).json()["data"] == []
    for key in ("' OR 1=1 --", "x" * 255):
        assert client.post("/v1/jobs", json={"spec": SPEC}, headers={"Idempotency-Key": key}).status_code == 202
    for key in ("", "x" * 256):
        assert client.post("/v1/jobs", json={"spec": SPEC}, headers={"Idempotency-Key": key}).status_code == 422


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        (
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        ),
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"\0" * 100_000,
    ],
    ids=["long header", "long path", "many headers", "negative length", "two lengths", "huge chunk", "TLS", "zeros"],
)
def test_a_malformed_request_is_refused_and_the_connection_closed(
    target: Target, client: httpx.Client, head: bytes
) -> None:
    before = target.memory
    try:
        answer = target.send_raw(head, seconds=8)
    except OSError:  # closed while we still sent
        answer = b""
    assert not answer or answer.split(b" ")[1][:1] == b"4", answer[:200]
    assert target.memory - before < 32 * _MIB
    assert client.get("/healthz").status_code == 200
