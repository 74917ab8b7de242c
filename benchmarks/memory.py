"""Measures how much memory a training process and an API process use, step by step.

Run with `python -m benchmarks.memory`. Each part is a separate process, measured through /proc
(Linux). Prints resident memory in MiB, how much of it is anonymous (not backed by files, such as
code shared with other processes), and the peak.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

_LAYERS = "784,(200,200,200),(50,50)"
_MIB = 2**20
_SERVICE_IMPORTS = (
    "numpy",
    "onnxruntime",
    "PIL.Image",
    "pydantic_settings",
    "sqlalchemy.orm",
    "alembic.command",
    "celery",
    "fastapi",
    "uvicorn.main",
    "service.app",
)


def main() -> None:
    """Measure and print both."""
    if sys.argv[1:] == ["--train"]:
        _train()
        return
    if sys.argv[1:] == ["--imports"]:
        _import()
        return
    from benchmarks.measuring import machine  # noqa: PLC0415 -- as below

    print(machine())
    print(f"\na training process, {_LAYERS} on MNIST, batch 256\n{'':52}{'resident':>9}{'anonymous':>10}{'peak':>7}")
    subprocess.run([sys.executable, "-m", "benchmarks.memory", "--train"], check=True)
    print(f"\nan API process\n{'':52}{'resident':>9}{'anonymous':>10}{'peak':>7}")
    subprocess.run([sys.executable, "-m", "benchmarks.memory", "--imports"], check=True)
    _serve()


def _import() -> None:
    """Import the service's dependencies one by one in this fresh process."""
    for module in _SERVICE_IMPORTS:
        importlib.import_module(module)
        _tell(f"import {module}")


def _train() -> None:
    """Run one training run step by step in this fresh process."""
    _tell("Python")
    import torch  # noqa: PLC0415 -- its memory is measured

    _tell("torch imported")
    from intff.datasets import load  # noqa: PLC0415 -- the same
    from intff.progress import EpochEnd, Finished  # noqa: PLC0415 -- the same
    from intff.spec import read_spec  # noqa: PLC0415 -- the same
    from intff.trainer import Trainer  # noqa: PLC0415 -- the same

    spec = read_spec({"architecture": _LAYERS, "training": {"epochs": 2}})
    _tell("intff.trainer imported")
    size = sum(each.nbytes for each in vars(load(spec.dataset)).values() if hasattr(each, "nbytes"))
    trainer = Trainer(spec)
    _tell("data set and network ready")
    weights = sum(each.nbytes for each in trainer.network.parameters())
    for event in trainer.run():
        if isinstance(event, EpochEnd):
            _tell(f"epoch {event.metrics.epoch} over, validated")
        elif isinstance(event, Finished):
            _tell("tested")
    with TemporaryDirectory() as folder:
        trainer.save_checkpoint(Path(folder) / "checkpoint")
        trainer.export_model(Path(folder) / "model")
    _tell("checkpoint and model written")
    print(
        f"of this: data set as bytes {size / _MIB:.0f} MiB (as floats it would be {4 * size / _MIB:.0f}), "
        f"weights {weights / _MIB:.1f}, gradients and Adam's moments {3 * weights / _MIB:.1f}; "
        f"{torch.get_num_threads()} threads"
    )


def _serve() -> None:
    import httpx  # noqa: PLC0415 -- the other parts measure imports, and must start without any

    from benchmarks.measuring import running, uvicorn  # noqa: PLC0415 -- the same
    from benchmarks.publishing import publish_model  # noqa: PLC0415 -- the same

    with TemporaryDirectory() as made:
        home = Path(made)
        model = publish_model(home, {"architecture": _LAYERS, "dataset": {"kind": "mnist", "train_size": 2000}})
        server = uvicorn("intff", "service.app:app", home / "log", {"INTFF_HOME": made})
        with running([server]), httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
            server.go_on()
            tell = _teller(server.pid)
            tell("started, idle")
            path = f"/v1/models/{model.id}/predict"
            image = [[0] * 28 for _ in range(28)]
            client.post(path, json={"images": [image]}).raise_for_status()
            tell("one model in memory (model.onnx: 1.0 MB)")
            for _ in range(2000):
                client.post(path, json={"images": [image]})
            tell("after 2,000 predictions of one image")
            many = json.dumps({"images": [image] * 1024}).encode()
            for _ in range(3):
                headers = {"Content-Type": "application/json"}
                client.post(path, content=many, headers=headers).raise_for_status()
            tell(f"after 1,024 images in one request ({len(many) / _MIB:.1f} MiB of JSON), three times")
            for _ in range(200):
                client.get("/v1/jobs").raise_for_status()
            client.get("/openapi.json").raise_for_status()
            tell("after listing jobs and /openapi.json")


def _teller(pid: int | str) -> Callable[[str], None]:
    def tell(what: str) -> None:
        lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        kib = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1:] == ["kB"]}
        shown = (kib["VmRSS"], kib["RssAnon"], kib["VmHWM"])
        print(f"    {what:48}" + "".join(f"{each / 1024:9.0f}" for each in shown), flush=True)

    return tell


_tell = _teller("self")


if __name__ == "__main__":
    main()
