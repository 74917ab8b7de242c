"""Damaged files are known by their hash: a job goes on from the checkpoint before, and no corrupt model is served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.installation import LEASE_SECONDS

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 900


def truncate(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose(file: Path) -> None:
    shutil.rmtree(file.parent)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"INTFF_LEASE_SECONDS": str(2 * LEASE_SECONDS)}  # time for the damage to be done


DAMAGES: dict[str, tuple[Callable[[Path], None], int]] = {
    "newest checkpoint truncated": (truncate, 1),
    "a bit flipped in both checkpoints": (flip_a_bit, 2),
    "newest checkpoint missing": (lose, 1),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_checkpoints(what: str, installation: Installation, weights_of: References, survived: Survived) -> None:
    damage, many = DAMAGES[what]
    installation.start()
    job = installation.submit(EPOCHS)
    installation.wait_for(job, lambda now: now.previous_checkpoint)
    installation.trainer().kill()
    now = installation.job(job)
    assert now.checkpoint is not None
    assert now.previous_checkpoint is not None
    for record in (now.checkpoint, now.previous_checkpoint)[:many]:
        damage(installation.artifacts / record["prefix"] / "state.safetensors")
    first = now.previous_checkpoint["epoch"] + 1 if many == 1 else 1

    installation.wait_for(job, lambda now: now.attempt == 2)
    installation.wait_until_succeeded(job)

    log = installation.workers[0].log.read_text()
    assert log.count("checkpoint_unusable") == many
    assert [line for line in log.splitlines() if job in line and f"first_epoch={first} " in line] != []
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    survived(what, figure=f"went on at epoch {first}")


def test_damaged_models_are_not_served(installation: Installation, survived: Survived) -> None:
    installation.start(apis=2)
    model = installation.wait_until_succeeded(installation.submit(1)).model_id
    (folder,) = installation.artifacts.glob("models/*/attempt-1")
    shutil.copytree(folder, installation.home / "whole")
    image = {"images": [[0] * 64], "scale": "bytes"}
    assert installation.post(f"/v1/models/{model}/predict", image).status_code == 200

    names = ("model.onnx", "weights.safetensors", "spec.json", "manifest.json")
    for damage in (truncate, flip_a_bit):
        for name in names:
            damage(folder / name)
            for api in (0, 1):
                answer = installation.get(f"/v1/models/{model}/artifacts/{name}", api=api)
                assert (answer.status_code, answer.json()["code"]) == (503, "model_corrupt"), name
            if name == "model.onnx":  # by the API that has not loaded it before the damage
                answer = installation.post(f"/v1/models/{model}/predict", image, api=1)
                assert (answer.status_code, answer.json()["code"]) == (503, "model_corrupt")
            shutil.copy(installation.home / "whole" / name, folder / name)

    assert installation.post(f"/v1/models/{model}/predict", image, api=1).status_code == 200
    survived("model file truncated, or a bit flipped", times=2 * len(names))
