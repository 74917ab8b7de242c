import json
from io import BytesIO
from typing import Any

import pytest

from intff.commands.spec_options import spec_data
from intff.errors import SpecError
from intff.spec import read_spec

PARTS = ["dataset", "noise", "architecture", "algorithm"]
TRAINING = ["epochs", "batch_size", "learning_rate", "jitter", "seed", "device"]
NONE: dict[str, Any] = dict.fromkeys([*PARTS, *TRAINING])


def _data(
    spec: object = None, preset: str | None = None, settings: tuple[str, ...] = (), **given: Any
) -> dict[str, Any]:
    file = None if spec is None else BytesIO(json.dumps(spec).encode())
    return spec_data(file, preset, settings, **{**NONE, **given})


def test_no_options_are_an_empty_spec() -> None:
    assert _data() == {}


def test_options_go_to_their_places() -> None:
    assert _data(preset="fast", dataset="digits", algorithm="ff", epochs=3, learning_rate=0.1, seed=0, jitter=0) == {
        "preset": "fast",
        "dataset": "digits",
        "algorithm": "ff",
        "training": {"epochs": 3, "learning_rate": 0.1, "seed": 0, "jitter": 0},
    }


def test_each_option_overrides_the_file_and_leaves_the_rest() -> None:
    file = {"algorithm": {"kind": "intff", "theta": 2}, "training": {"epochs": 9, "seed": 4}, "noise": "none"}
    assert _data(file, algorithm="intff", epochs=3, noise="none") == {
        "algorithm": {"kind": "intff", "theta": 2},
        "training": {"epochs": 3, "seed": 4},
        "noise": "none",
    }
    assert _data(file, algorithm="ff")["algorithm"] == {"kind": "ff", "theta": 2}
    assert _data(file, algorithm="bp")["algorithm"] == "bp"


def test_the_file_must_hold_an_object() -> None:
    file = BytesIO(b"[]")
    file.name = "spec.json"
    with pytest.raises(SpecError, match=r"spec\.json must contain a training spec as a JSON object, got list"):
        spec_data(file, None, (), **NONE)


def test_any_field_can_be_set_by_its_path() -> None:
    settings = ("algorithm.loss=symba", "algorithm.theta=2", "noise.share=0.5", "training.early_stopping.patience=3")
    assert _data(algorithm="ff", noise="gaussian", settings=settings) == {
        "algorithm": {"kind": "ff", "loss": "symba", "theta": 2},
        "noise": {"kind": "gaussian", "share": 0.5},
        "training": {"early_stopping": {"patience": 3}},
    }


def test_a_setting_beside_a_notation_keeps_it() -> None:
    data = _data(architecture="784,(20),(10)", settings=("architecture.activation=relu",))
    assert data == {"architecture": {"kind": "layers", "units": "784,(20),(10)", "activation": "relu"}}
    spec = read_spec(data)
    assert (spec.architecture.units, spec.architecture.activation) == (((20,), (10,)), "relu")


@pytest.mark.parametrize("setting", ["algorithm.loss", "=3", "a b=3", "algorithm..loss=3"])
def test_a_setting_without_a_path_is_refused(setting: str) -> None:
    with pytest.raises(SpecError, match="--set takes FIELD=VALUE"):
        _data(settings=(setting,))
