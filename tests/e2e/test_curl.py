"""A newcomer's whole session with nothing but curl, and a program that has never heard of this project."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intff import datasets
from intff.spec import Digits

pytestmark = pytest.mark.slow

SMALL = {
    "dataset": "digits",
    "architecture": "64,(100,100),(50,50)",
    "training": {"epochs": 12, "batch_size": 32, "jitter": 0},
}
ENDLESS = {**SMALL, "training": {"epochs": 10_000, "batch_size": 32}}
JSON = ("-H", "Content-Type: application/json", "-d")
STRANGER = Path(__file__).with_name("stranger.py")


def curl(*arguments: str, given: bytes = b"") -> bytes:
    """What curl prints; a status of 400 or more is a failure."""
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", "--max-time", "120", *arguments],
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


def get(*arguments: str) -> Any:
    return json.loads(curl(*arguments))


def submit(url: str, spec: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return dict(get(*JSON, json.dumps({"spec": spec, **fields}), f"{url}/v1/jobs"))


def wait(url: str, job_id: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        job = dict(get(f"{url}/v1/jobs/{job_id}"))
        if job["status"] in statuses:
            return job
        assert time.monotonic() < deadline, job
        assert not job["is_terminal"], job
        time.sleep(0.2)


def events(url: str, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Every event of a job until its stream ends."""
    kinds: list[str] = []
    data: list[dict[str, Any]] = []
    for line in curl("-N", f"{url}/v1/jobs/{job_id}/events").decode().splitlines():
        if line.startswith("event: "):
            kinds.append(line.removeprefix("event: "))
        elif line.startswith("data: "):
            data.append(json.loads(line.removeprefix("data: ")))
    return list(zip(kinds, data, strict=True))


def test_a_session_with_the_embedded_service(embedded: str, tmp_path: Path) -> None:
    _session(embedded, tmp_path)


@pytest.mark.parametrize(("database_url", "broker_url"), [("postgresql", "redis")], indirect=True)
def test_the_same_session_with_postgresql_redis_and_two_workers(distributed: str, tmp_path: Path) -> None:
    first, second = submit(distributed, ENDLESS), submit(distributed, ENDLESS)
    for job in (first, second):  # at once, which one worker could not do
        wait(distributed, job["id"], "running")
    for job in (first, second):
        assert get(f"{distributed}/v1/jobs/{job['id']}")["status"] == "running"
        curl("-X", "POST", f"{distributed}/v1/jobs/{job['id']}/cancel")
    for job in (first, second):
        wait(distributed, job["id"], "cancelled")
    _session(distributed, tmp_path)


def _session(url: str, folder: Path) -> None:
    job = submit(url, SMALL, name="first")
    other = submit(url, ENDLESS, name="second")
    assert job["spec"]["architecture"]["units"] == [[100, 100], [50, 50]]

    _follow(url, job["id"])
    _cancel(url, other["id"])
    _list(url, [other["id"], job["id"]])

    job = wait(url, job["id"], "succeeded")
    assert job["result"]["test_accuracy"] > 0.8
    assert get(f"{url}/v1/models/latest")["id"] == job["model_id"]

    pictures = datasets.load(Digits()).test_images[:5]  # [5, 1, 8, 8], bytes
    answer = _predict(url, job["model_id"], pictures)
    _download(url, job["model_id"], folder)
    _ask_a_stranger(folder / "model.onnx", pictures, [entry["goodness"] for entry in answer["predictions"]])


def _follow(url: str, job_id: str) -> None:
    seen = events(url, job_id)
    metrics = [data for kind, data in seen if kind == "metrics"]
    assert [entry["epoch"] for entry in metrics] == list(range(1, 13))
    assert metrics == get(f"{url}/v1/jobs/{job_id}/metrics")["data"]
    assert any(kind == "progress" and data["epochs"] == 12 for kind, data in seen)
    kind, last = seen[-1]
    assert (kind, last["status"], last["is_terminal"]) == ("status", "succeeded", True)


def _cancel(url: str, job_id: str) -> None:
    for _ in range(2):  # repeating it is harmless
        curl("-X", "POST", f"{url}/v1/jobs/{job_id}/cancel")
    job = wait(url, job_id, "cancelled")
    assert job["model_id"] is None
    assert job["finished_at"] is not None


def _list(url: str, expected: list[str]) -> None:
    """Newest first, one at a time, by the cursor."""
    found: list[str] = []
    after = ""
    for _ in expected:
        page = get(f"{url}/v1/jobs?limit=1{after}")
        (job,) = page["data"]
        found.append(job["id"])
        after = f"&after={job['id']}"
    assert found == expected
    assert [job["id"] for job in get(f"{url}/v1/jobs?name=first")["data"]] == [expected[1]]


def _predict(url: str, model: str, pictures: np.ndarray[Any, Any]) -> dict[str, Any]:
    """By JSON and by a PNG file, with one answer."""
    path = f"{url}/v1/models/{model}/predict"
    body = json.dumps({"images": [picture[0].tolist() for picture in pictures]})
    answer = dict(get(*JSON, body, path))
    assert answer["model"] == model
    assert answer["labels"] == list("0123456789")
    assert len(answer["predictions"]) == 5
    file = io.BytesIO()
    Image.fromarray(pictures[0, 0]).save(file, format="PNG")
    sent = curl("-H", "Content-Type: image/png", "--data-binary", "@-", path, given=file.getvalue())
    (alone,) = json.loads(sent)["predictions"]
    assert alone["label"] == answer["predictions"][0]["label"]
    assert alone["goodness"] == pytest.approx(answer["predictions"][0]["goodness"], abs=1e-5)
    return answer


def _download(url: str, model: str, folder: Path) -> None:
    path = f"{url}/v1/models/{model}"
    hashes = {entry["name"]: entry["sha256"] for entry in get(path)["artifacts"]}
    assert set(hashes) == {"weights.safetensors", "model.onnx", "spec.json"}
    for name in (*hashes, "manifest.json"):
        curl("-o", str(folder / name), f"{path}/artifacts/{name}")
    for name, expected in hashes.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == hashes


def _ask_a_stranger(model: Path, pictures: np.ndarray[Any, Any], expected: list[list[float]]) -> None:
    images = (pictures / np.float32(255)).tolist()
    # Isolated, and in another folder: nothing of this project is on its path but what is installed.
    command = [sys.executable, "-I", str(STRANGER), str(model)]
    done = subprocess.run(
        command, input=json.dumps(images), capture_output=True, text=True, check=False, cwd=model.parent
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
