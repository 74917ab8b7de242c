"""The process of one local run: reads a spec from standard input, trains, and writes the outcome to standard output."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from intff.errors import Diverged, IntffError
from intff.progress import EpochEnd, Event, Finished, Started
from intff.spec import read_spec
from intff.trainer import Trainer


def main() -> None:
    """Run the spec in the first line; the parent process keeps the input open for as long as it lives."""
    torch.set_num_threads(1)
    spec = read_spec(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _outcome(Trainer(spec).run())
    except (IntffError, OSError) as error:
        answer = {"failed": f"{error}"}
    json.dump(answer, sys.stdout)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _outcome(events: Iterable[Event]) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = []
    result, error, device = None, None, ""
    try:
        for event in events:
            match event:
                case Started():
                    device = event.device
                case EpochEnd(metrics=epoch):
                    metrics.append(asdict(epoch))
                case Finished(result=finished):
                    result = asdict(finished)
    except Diverged as diverged:
        error = {"code": diverged.code, "message": str(diverged)}
    build = {
        "intff": version("intff"),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
    }
    return {"result": result, "metrics": metrics, "error": error, "build": build}


if __name__ == "__main__":
    main()
