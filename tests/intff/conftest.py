"""What the library's tests share: Hypothesis without chance, and one small model that was really trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from intff import Model, TrainSpec, read_spec, train

# The same examples in every run, so that a failure is always seen again; no deadline, since CI machines stall.
settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("deterministic")

SpecOf = Callable[..., TrainSpec]


@pytest.fixture(scope="session")
def digits_spec() -> SpecOf:
    """Makes specs of short runs on the bundled digits."""

    def spec(architecture: object = "64,(12,8),(6)", algorithm: object = "intff", **training: object) -> TrainSpec:
        schedule = {"epochs": 2, "batch_size": 64, "jitter": 0, "device": "cpu", **training}
        parts = {"dataset": "digits", "architecture": architecture, "algorithm": algorithm, "training": schedule}
        return read_spec(parts)

    return spec


@pytest.fixture(scope="session")
def model(digits_spec: SpecOf) -> Model:
    """A small IntFF network, trained for two epochs."""
    return train(digits_spec())


@pytest.fixture(scope="session")
def model_folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of that model; only to be read."""
    folder = tmp_path_factory.mktemp("models") / "small"
    model.save(folder)
    return folder
