"""The quickstart: starts the service, trains through its API, classifies test images, and suggests what to try next."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from intff import datasets
from intff.errors import DatasetError, IntffError
from intff.notation import write
from intff.spec import Digits, Mnist
from scripts.chart import draw
from service.children import Child
from service.client import Client
from service.commands.bar import JobBar
from service.lock import LOCK, holder_of

NAME = "quickstart"
IMAGES = 100
"""Number of test images sent to the predict endpoint; a few of them are shown."""
READY_SECONDS = 60.0
STOP_SECONDS = 30.0

console = Console(highlight=False)


class QuickstartFailed(IntffError):
    """A step failed; the message says which one and shows the details."""


def main() -> int:
    """Run the demonstration; 0 if training and classification succeeded."""
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop the service at the end instead of keeping it running")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    home = Path(os.environ.get("INTFF_HOME") or "~/.intff").expanduser().absolute()
    os.environ["INTFF_HOME"] = str(home)  # it also contains the data set cache
    try:
        with _service(home) as service:
            preset, data = _choose_dataset()  # while the service starts
            url = _wait_until_ready(service, home)
            console.print(f"Service   {url}, with its files in {home}", soft_wrap=True)
            with Client(url, os.environ.get("INTFF_API_KEY")) as client:  # needed if the home has API keys
                job = _train(client, preset, home)
                _classify(client, str(job["model_id"]), data)
            _say_what_next(url, job, preset, _save_picture(home, data))
            if not once:
                _serve_on(service, url)
    except KeyboardInterrupt:
        print("\nquickstart: stopped", file=sys.stderr)
        return 130
    except IntffError as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        return 1
    return 0


def _choose_dataset() -> tuple[str, datasets.Dataset]:
    """The preset to train, and its data: MNIST if it is available, else the bundled digits."""
    try:
        data = datasets.load(Mnist(), progress=True)
    except DatasetError as error:
        reason = str(error).splitlines()[0]
        data = datasets.load(Digits())
        console.print(f"Data set  digits, {len(data.train_labels):,} training images of 8x8 ({data.source})")
        console.print(f"          because {reason}")
        return "digits", data
    console.print(
        f"Data set  MNIST, {len(data.train_labels):,} training images of 28x28 ({data.source})", soft_wrap=True
    )
    return "fast", data


@contextmanager
def _service(home: Path) -> Iterator[Child]:
    """Run `intff serve` until the end of the block."""
    # Ignores all settings but the home and the data folder, so that the demonstration is the same everywhere.
    kept = {"INTFF_HOME", "INTFF_DATA_DIR"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("INTFF_") or key in kept}
    command = [_intff(), "serve", "--home", str(home)]
    service = Child("intff serve", command, environment, home / "logs" / "serve.log")
    service.start()
    try:
        yield service
    finally:
        service.ask_to_end()
        service.wait(time.monotonic() + STOP_SECONDS, lambda: False)


def _wait_until_ready(service: Child, home: Path) -> str:
    """The URL of the service just started, which uses another port if the default one is taken."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        holder = holder_of(home / LOCK)
        if holder.pid == service.pid and holder.url is not None:
            with Client(holder.url) as client:
                if client.is_ready():
                    return holder.url
        if service.died() is not None or time.monotonic() > deadline:
            msg = f"the service did not start; the end of its log:\n{service.last_words()}"
            raise QuickstartFailed(msg)
        time.sleep(0.05)


def _train(client: Client, preset: str, home: Path) -> dict[str, Any]:
    for left in [job for job in client.jobs(name=NAME) if not job["is_terminal"]]:
        client.move(left["id"], "cancel")  # left by a killed quickstart; this one should not wait for it
    job = client.submit({"preset": preset}, name=NAME, priority=9)
    whole = job["spec"]
    units = whole["architecture"]["units"]
    inputs = int(np.prod(whole["architecture"]["input_shape"]))
    console.print(f"Job       {job['id']}: {write(inputs, units)} by {whole['algorithm']['kind']}\n")
    try:
        with JobBar(job["progress"]["epochs"], sys.stdout) as bar:
            for event in client.events(job["id"]):
                bar.show(event)
    except KeyboardInterrupt:
        client.move(job["id"], "cancel")
        raise
    job = client.job(job["id"])
    result, error = job["result"], job["error"]
    if result is None or job["model_id"] is None:
        why = f"{error['code']}: {error['message']}" if error else f"it is {job['status']}"
        msg = f"the job did not succeed: {why}\nthe worker's log is in {home / 'logs'}"
        raise QuickstartFailed(msg)
    console.print(
        f"\nTest accuracy [bold]{100 * result['test_accuracy']:.2f} %[/bold] "
        f"after {result['train_seconds']:.1f} s of training\n"
    )
    return dict(job)


def _classify(client: Client, model: str, data: datasets.Dataset) -> None:
    """Classify the first test images, and show two of them and the one with the smallest margin."""
    images = data.test_images[:IMAGES, 0]  # [N, H, W]
    answer = client.predict(model, list(images))
    predictions = answer["predictions"]
    right = sum(entry["label"] == data.labels[true] for entry, true in zip(predictions, data.test_labels, strict=False))
    closest = int(np.argmin([entry["margin"] for entry in predictions]))
    console.print(f"{right} of the first {len(images)} test images are classified correctly. Goodness by label:\n")
    for index, title in {0: "the first", 1: "the second", closest: "the closest call"}.items():
        true = data.labels[data.test_labels[index]]
        console.print(f"Test image {index + 1}, {title}")
        console.print(draw(images[index], answer["labels"], predictions[index]["goodness"], true))
        console.print()


def _save_picture(home: Path, data: datasets.Dataset) -> Path:
    file = home / "quickstart" / f"{data.labels[data.test_labels[0]]}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(data.test_images[0, 0]).save(file)
    return file


def _say_what_next(url: str, job: dict[str, Any], preset: str, picture: Path) -> None:
    job_id, model_id = job["id"], job["model_id"]
    another = f'{{"spec": {{"preset": "{preset}", "algorithm": "ff"}}}}'
    steps = {
        "the job and its epochs": (
            f"curl {url}/v1/jobs/{job_id}",
            f"curl {url}/v1/jobs/{job_id}/metrics",
        ),
        "classify an image": (
            f"curl -H 'Content-Type: image/png' --data-binary @{picture} \\",
            f"    {url}/v1/models/{model_id}/predict",
        ),
        "the model, for any program with ONNX Runtime": (
            f"curl -o model.onnx {url}/v1/models/{model_id}/artifacts/model.onnx",
        ),
        "train another network with plain Forward-Forward, and list both jobs": (
            f"curl -H 'Content-Type: application/json' {url}/v1/jobs \\",
            f"    -d '{another}'",
            f"{_intff()} jobs list --url {url}",
        ),
    }
    console.print("Try next, in another terminal:")
    for what, commands in steps.items():
        console.print(f"\n  # {what}", style="dim")
        for command in commands:
            # Long lines are left for the terminal to wrap, so that they can be copied as one line.
            console.print(f"  {command}", soft_wrap=True, markup=False)
    console.print(f"\nAPI documentation: {url}/docs")


def _serve_on(service: Child, url: str) -> None:
    console.print(f"Serving at {url}; press Ctrl-C to stop.")
    try:
        while service.died() is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    msg = f"the service has ended; the end of its log:\n{service.last_words()}"
    raise QuickstartFailed(msg)


def _intff() -> str:
    return str(Path(sys.executable).with_name("intff"))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
