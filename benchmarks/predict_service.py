"""Predictions over HTTP, compared with bare FastAPI routes and with the same model served by LitServe.

Run with `python -m benchmarks.predict_service`. LitServe is installed into a temporary environment,
unless `--litserve PYTHON` gives one that has it. Every server is measured in every round while the
others are suspended; each result is the median over the rounds.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from benchmarks.measuring import Server, free_port, machine, median, running, uvicorn
from benchmarks.publishing import publish_model
from intff.datasets import load
from intff.spec import read_spec

LITSERVE = "litserve==0.2.19"
CONCURRENCY = (1, 8, 64)
_SPEC = {"architecture": "784,(200,200,200),(50,50)", "dataset": {"kind": "mnist", "train_size": 2000}}
_HERE = Path(__file__).parent


@dataclass
class Contender:
    """One route of one server, and its measurements at each concurrency."""

    name: str
    server: Server
    request: bytes
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)

    def of(self, concurrency: int, what: str) -> float:
        """The median over the rounds."""
        return median([each[what] for each in self.rounds[concurrency]])


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        contenders = _contenders(folder, options.litserve)
        servers = list({id(each.server): each.server for each in contenders}.values())
        with running(servers):
            print(machine())
            for number in range(options.rounds):
                for concurrency in CONCURRENCY:
                    # Each round starts with a different one.
                    first = number % len(contenders)
                    for contender in contenders[first:] + contenders[:first]:
                        found = _measure(contender, concurrency, options.seconds)
                        contender.rounds.setdefault(concurrency, []).append(found)
            _report(contenders)
            print(machine())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--litserve", help="a Python that has LitServe, or `none` to skip LitServe")
    return parser.parse_args()


def _contenders(folder: Path, litserve: str | None) -> list[Contender]:
    graph, environment, model = _publish(folder)
    pixels = load(read_spec(_SPEC).dataset).test_images[0, 0]
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    as_bytes = json.dumps({"images": [pixels.tolist()]}).encode()
    as_units = json.dumps({"images": [(pixels / 255).round(4).ravel().tolist()]}).encode()

    ours = uvicorn("intff", "service.app:app", folder / "intff.log", environment)
    bare = uvicorn("bare", "benchmarks.bare_routes:app", folder / "bare.log", None, "--no-access-log")
    none = uvicorn("ceiling", "benchmarks.bare_routes:ceiling", folder / "ceiling.log", None, "--no-access-log")
    path = f"/v1/models/{model}/predict"
    contenders = [
        Contender("intff, JSON of bytes, nested", ours, _request(path, as_bytes)),
        Contender("intff, JSON of floats, flat", ours, _request(path, as_units)),
        Contender("intff, PNG", ours, _request(path, png.getvalue(), "image/png")),
        Contender("intff, raw bytes", ours, _request(path, pixels.tobytes(), "application/octet-stream")),
        Contender("bare FastAPI, dict in, dict out", bare, _request("/dict", as_bytes)),
        Contender("bare FastAPI, pydantic types", bare, _request("/typed", as_bytes)),
        Contender("bare FastAPI, json.loads, JSONResponse", bare, _request("/lean", as_bytes)),
        Contender("bare FastAPI, raw bytes", bare, _request("/bytes", pixels.tobytes(), "application/octet-stream")),
        Contender("no framework, a constant (the ceiling)", none, _request("/", as_bytes)),
    ]
    if litserve != "none":
        python = litserve or _install_litserve(folder)
        for most in (1, 16):
            port = free_port()
            command = [python, str(_HERE / "litserve_server.py"), str(graph), str(port), str(most)]
            server = Server(f"litserve {most}", command, port, folder / f"litserve-{most}.log")
            contenders.append(Contender(f"LitServe, batches of at most {most}", server, _request("/predict", as_bytes)))
    return contenders


def _publish(folder: Path) -> tuple[Path, dict[str, str], str]:
    """Train and store a model as a worker does; returns its graph, the service's settings, and its id."""
    environment = {"INTFF_HOME": str(folder / "home")}
    model = publish_model(folder / "home", _SPEC)
    graph = folder / "home" / "artifacts" / model.prefix / "model.onnx"
    return graph, environment, model.id


def _request(path: str, body: bytes, media_type: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _install_litserve(folder: Path) -> str:
    venv.create(folder / "litserve", with_pip=True)
    python = str(folder / "litserve" / "bin" / "python")
    same = [
        f"{name}=={version(name)}" for name in ("numpy", "onnxruntime", "fastapi", "uvicorn", "uvloop", "httptools")
    ]
    subprocess.run([python, "-m", "pip", "install", "--quiet", LITSERVE, *same], check=True)
    return python


def _measure(contender: Contender, concurrency: int, seconds: float) -> dict[str, float]:
    server = contender.server
    request = base64.b64encode(contender.request).decode()
    orders = {"port": server.port, "request": request, "concurrency": concurrency, "seconds": seconds}
    server.go_on()
    cpu = server.cpu_seconds()
    ran = subprocess.run(
        [sys.executable, str(_HERE / "load_generator.py")],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = server.cpu_seconds() - cpu
    server.pause()
    found: dict[str, float] = json.loads(ran.stdout)
    if found["failures"]:
        msg = f"{contender.name}: {found['failures']} answers were not 200"
        raise RuntimeError(msg)
    found["cpu"] = cpu / found["all_requests"]
    return found


def _report(contenders: Sequence[Contender]) -> None:
    ours = contenders[0]
    for concurrency in CONCURRENCY:
        print(f"\nconcurrency {concurrency}")
        print(f"{'':40}{'req/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'load gen.':>10}")
        for each in contenders:
            print(
                f"{each.name:40}{each.of(concurrency, 'requests_per_second'):8.0f}"
                f"{each.of(concurrency, 'p50') * 1e3:9.3f}{each.of(concurrency, 'p99') * 1e3:9.2f}"
                f"{each.of(concurrency, 'cpu') * 1e6:9.0f}{each.of(concurrency, 'cpu_share'):10.0%}"
            )
    print("\nratios, as medians of the ratios within each round")
    for other in contenders[4:]:
        for concurrency in CONCURRENCY:
            time_ratio = _ratio(ours, other, concurrency, "p50")
            rate_ratio = _ratio(ours, other, concurrency, "requests_per_second")
            cpu_ratio = _ratio(ours, other, concurrency, "cpu")
            print(
                f"intff, JSON of bytes / {other.name}, at {concurrency}: "
                f"p50 x {time_ratio:.2f}, requests/s x {rate_ratio:.2f}, CPU x {cpu_ratio:.2f}"
            )


def _ratio(one: Contender, other: Contender, concurrency: int, what: str) -> float:
    pairs = zip(one.rounds[concurrency], other.rounds[concurrency], strict=True)
    return median([mine[what] / theirs[what] for mine, theirs in pairs])


if __name__ == "__main__":
    main()
