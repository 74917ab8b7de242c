"""`intff models` against a running application: list, show, name, download and predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from service.commands.models import models


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The commands see no database; one kind is enough."""
    return f"sqlite:///{tmp_path / 'intff.db'}"


@pytest.fixture
def intff(client: httpx.Client) -> Callable[..., Result]:
    """Run `intff models` with these arguments, towards the application."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(models, arguments, env={"INTFF_URL": str(client.base_url)})

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Four pixels of which the second, the score of label b, is white."""
    Image.fromarray(np.array([[0, 255], [0, 0]], dtype=np.uint8)).save(tmp_path / "b.png")
    return tmp_path / "b.png"


def test_list_and_show_tell_people_and_programs(intff: Callable[..., Result], make_model: Callable[..., str]) -> None:
    first, second = make_model(), make_model()
    lines = intff("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["model", second, first]
    assert "50.00 %" in lines[1]
    (newest,) = [json.loads(line) for line in intff("list", "--limit", "1", "--json").stdout.splitlines()]
    assert newest["id"] == second
    shown = intff("show", "latest").stdout
    assert f"model                {second}" in shown
    assert "model.onnx" in shown
    assert json.loads(intff("show", first, "--json").stdout)["id"] == first


def test_an_alias_is_a_name_from_now_on(intff: Callable[..., Result], make_model: Callable[..., str]) -> None:
    first, _ = make_model(), make_model()
    result = intff("alias", "best", first)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"best is {first}\n")
    assert json.loads(intff("show", "best", "--json").stdout)["id"] == first


def test_a_download_is_a_folder_of_all_files(
    intff: Callable[..., Result], make_model: Callable[..., str], tmp_path: Path
) -> None:
    model = make_model()
    result = intff("download", "latest", "--out", str(tmp_path / "got" / "here"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'got' / 'here'}\n")
    files = sorted(file.name for file in (tmp_path / "got" / "here").iterdir())
    assert files == ["manifest.json", "model.onnx", "spec.json", "weights.safetensors"]
    one = intff("download", model, "--out", str(tmp_path / "one"), "--file", "model.onnx", "--json")
    assert json.loads(one.stdout) == {"model": model, "file": str(tmp_path / "one" / "model.onnx")}
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["model.onnx"]


def test_a_file_that_the_model_does_not_have_fails_and_leaves_nothing(
    intff: Callable[..., Result], make_model: Callable[..., str], tmp_path: Path
) -> None:
    result = intff("download", make_model(), "--out", str(tmp_path / "got"), "--file", "weights.pt")
    assert result.exit_code == 1
    assert "weights.pt" in result.stderr
    assert list((tmp_path / "got").iterdir()) == []


def test_pictures_are_classified(intff: Callable[..., Result], make_model: Callable[..., str], picture: Path) -> None:
    model = make_model()
    result = intff("predict", "latest", str(picture), str(picture), "--invert", "false")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["file", "label", "margin", "a", "b", "c"],
        [str(picture), "b", "3.00", "0.00", "3.00", "0.00"],
        [str(picture), "b", "3.00", "0.00", "3.00", "0.00"],
    ]
    answer = json.loads(intff("predict", "latest", str(picture), "--invert", "false", "--json").stdout)
    assert (answer["file"], answer["model"], answer["label"]) == (str(picture), model, "b")
    assert answer["goodness"] == [0.0, 3.0, 0.0]


def test_a_file_that_is_no_picture_is_named(
    intff: Callable[..., Result], make_model: Callable[..., str], tmp_path: Path
) -> None:
    make_model()
    (tmp_path / "text.png").write_text("not a picture")
    result = intff("predict", "latest", str(tmp_path / "text.png"))
    assert result.exit_code == 1
    assert "text.png" in result.stderr
    assert intff("predict", "latest", str(tmp_path / "absent.png")).exit_code == 2
