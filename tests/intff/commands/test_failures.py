"""Whatever is wrong ends in one clear line and the right exit code, with nothing half-written."""

import errno
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intff import Model
from intff.build import build_network
from intff.commands import train as command
from intff.errors import SpecError
from intff.progress import Result
from intff.spec import read_spec

Run = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--architecture", "784,ten"], "error: architecture: expected a width such as 200"),
        (["--architecture", "64,(10)"], r"error: architecture: mnist images have the shape [1, 28, 28], 784 pixels"),
        (
            ["--architecture", "784,(1000000000)"],
            "architecture.units: the network would have 785,000,000,000 ",
        ),
        (["--algorithm", "adaline"], "error: algorithm: there is no kind 'adaline'; choose one of 'intff', 'ff', 'bp'"),
        (["--dataset", "cifar"], "error: dataset: there is no kind 'cifar'; choose one of 'mnist', "),
        (["--noise", "loud"], "error: noise: there is no kind 'loud'; choose one of 'none', "),
        (["--learning-rate", "nan"], "error: training.learning_rate: Input should be a finite number, got nan"),
        (["--epochs", "0"], "error: training.epochs: Input should be greater than or equal to 1, got 0"),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--preset", "best"], "'best' is not one of 'fast'"),
        (["--spec", "nowhere.json"], "'nowhere.json': No such file or directory"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_2(intff: Run, arguments: list[str], says: str) -> None:
    done = intff("train", "--json", *arguments)
    assert done.code == 2
    assert says in done.err
    assert done.out == ""


def test_a_key_that_is_there_twice_is_refused(intff: Run, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text('{"training": {"epochs": 1, "epochs": 2}}')
    done = intff("train", "--spec", file)
    assert (done.code, done.err) == (2, f"error: {file} is not JSON: an object has the key 'epochs' twice\n")


def test_only_memory_limits_a_network_here() -> None:
    """The service's limit of 50 million parameters is for those who share it."""
    command._require_memory(read_spec({"architecture": "784,(80000)"}))
    with pytest.raises(SpecError, match="the network would have 785,000,000,000 parameters; at most"):
        command._require_memory(read_spec({"architecture": "784,(1000000000)"}))


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"training": {"epochs": ' + b"9" * 5000 + b"}}", "is not JSON"),
        (b"[1]", "must contain a training spec as a JSON object, got list"),
        (b'{"algorithm": {"theta": NaN}}', "algorithm.theta: Input should be a finite number, got nan"),
        (b'{"algorithm": {"theta": 1e999}}', "algorithm.theta: Input should be a finite number, got inf"),
        (b'{"colour": "red"}', "colour: there is no such field, got 'red'"),
    ],
)
def test_a_bad_spec_file_is_2(intff: Run, tmp_path: Path, contents: bytes, says: str) -> None:
    (tmp_path / "spec.json").write_bytes(contents)
    done = intff("train", "--spec", tmp_path / "spec.json", "--out", tmp_path / "out")
    assert done.code == 2
    assert says in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.json"]


def test_an_out_that_is_taken_or_cannot_be_made_is_2_before_any_training(
    intff: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("1")
    (tmp_path / "file").write_text("1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out, says in (
        ("full", "is not an empty folder"),
        ("file", "is not an empty folder"),
        ("file/below", "cannot be created: not a directory"),
        ("x" * 250, "cannot be created: file name too long"),
        ("here", "name a new folder inside it"),
    ):
        done = intff("train", "--dataset", "digits", "--preset", "digits", "--out", tmp_path / out)
        assert done.code == 2
        assert says in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "here"]


def test_a_model_that_cannot_be_saved_takes_no_result_away(
    intff: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr("intff.trainer.export_model", full)
    figure = tmp_path / "run.svg"
    out = ("--out", tmp_path / "out", "--plot", figure)
    done = intff("train", "--dataset", "digits", "--architecture", "64,(12)", "--epochs", "1", *out, "--json")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert figure.read_text().rstrip().endswith("</svg>")
    finished = json.loads(done.out.splitlines()[-1])
    assert (finished["event"], finished["model"]) == ("finished", None)
    assert finished["test_accuracy"] > 0


def test_a_broken_data_set_file_is_1_and_named(intff: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"not an IDX file"))
    monkeypatch.setenv("INTFF_DATA_DIR", str(tmp_path / "data"))
    done = intff("train", "--dataset", "mnist", "--epochs", "1", "--out", tmp_path / "out", "--json")
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert "train-images-idx3-ubyte.gz cannot be used" in done.err
    assert done.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_run_that_diverges_is_1_and_writes_nothing(intff: Run, tmp_path: Path) -> None:
    spec = {
        "dataset": "digits",
        "architecture": {"units": [[50] * 8], "activation": "relu"},
        "algorithm": {"goodness": "sum_square", "label_encoding": {"value": 1000}},
        "training": {"epochs": 50, "batch_size": 64, "learning_rate": 10, "schedule": "constant"},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    done = intff("train", "--spec", tmp_path / "spec.json", "--out", tmp_path / "out")
    assert done.code == 1
    assert "error: the loss became" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.json"]


def test_no_model_or_a_broken_one_is_1(intff: Run, tmp_path: Path, picture: Path, model_folder: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_bytes((model_folder / "manifest.json").read_bytes())
    for folder in ("nowhere", "broken", "picture.png"):
        for arguments in (
            ["predict", "--model", tmp_path / folder, picture],
            ["evaluate", "--model", tmp_path / folder],
        ):
            done = intff(*arguments)
            assert done.code == 1
            assert f"error: {tmp_path / folder} does not contain a readable model" in done.err


def test_what_is_no_picture_is_1_and_named(intff: Run, tmp_path: Path, picture: Path, model_folder: Path) -> None:
    (tmp_path / "text.png").write_text("I am a text")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:40])
    for name, says in (
        ("text.png", "got text"),
        ("cut.png", "damaged or truncated"),
        ("absent.png", "No such file"),
        (".", "Is a directory"),
    ):
        done = intff("predict", "--model", model_folder, picture, tmp_path / name, "--json")
        assert done.code == 1
        assert says in done.err
        assert str(tmp_path / name) in done.err
        assert done.out == ""


def test_pictures_are_needed(intff: Run, model_folder: Path) -> None:
    done = intff("predict", "--model", model_folder)
    assert done.code == 2
    assert "Missing argument 'FILES...'" in done.err


def test_a_model_is_not_measured_on_images_of_another_shape(intff: Run, model_folder: Path) -> None:
    done = intff("evaluate", "--model", model_folder, "--dataset", "mnist")
    assert done.code == 2
    assert "takes images of shape [1, 8, 8], but those of mnist have shape [1, 28, 28]" in done.err


def test_nor_on_another_labels(intff: Run, tmp_path: Path) -> None:
    """They would be counted as right where their numbers agree."""
    spec = read_spec({"architecture": "784,(12)"})
    nothing = Result(0.1, 0.1, 1.0, 1, 9608, "made up")
    Model(spec, build_network(spec), nothing).save(tmp_path / "model")
    done = intff("evaluate", "--model", tmp_path / "model", "--dataset", "fashion_mnist")
    assert done.code == 2
    assert "labels are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, but those of fashion_mnist are T-shirt" in done.err
