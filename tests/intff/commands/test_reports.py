"""What `intff predict` and `intff evaluate` report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intff import Model, datasets
from intff.spec import Digits

Run = Callable[..., Any]


def _digit(number: int, folder: Path) -> Path:
    path = folder / f"digit{number}.png"
    Image.fromarray(datasets.load(Digits()).test_images[number, 0]).save(path)
    return path


def test_predict_says_what_the_model_says(intff: Run, model: Model, model_folder: Path, tmp_path: Path) -> None:
    files = [_digit(number, tmp_path) for number in range(3)]
    done = intff("predict", "--model", model_folder, "--json", "--invert", "false", *files)
    assert done.code == 0
    answers = [json.loads(line) for line in done.out.splitlines()]
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    for answer, wanted in zip(answers, model.predict(datasets.load(Digits()).test_images[:3]), strict=True):
        assert answer["label"] == wanted.label
        assert answer["goodness"] == pytest.approx(wanted.goodness, rel=1e-4)
        assert np.shape(answer["unit_goodness"]) == (2, 10)
        assert answer["margin"] == pytest.approx(wanted.margin, abs=1e-4)
        assert answer["probabilities"] is None


def test_predict_for_people_is_one_line_an_image(intff: Run, model_folder: Path, tmp_path: Path) -> None:
    file = _digit(0, tmp_path)
    done = intff("predict", "--model", model_folder, file)
    assert done.code == 0
    (line,) = done.out.splitlines()
    assert line.startswith(f"{file}: ")
    assert "margin" in line
    assert all(f"{label}:" in line for label in range(10))


def test_evaluate_finds_the_accuracy_of_the_run(intff: Run, model: Model, model_folder: Path) -> None:
    done = intff("evaluate", "--model", model_folder, "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "dataset": "digits",
        "test_images": 360,
        "test_accuracy": model.result.test_accuracy,
    }
    assert f"{model.result.test_accuracy:.2%} on 360 images of digits" in intff("evaluate", "--model", model_folder).out
