"""`intff train --plot`: the run as a figure, in the format of the file's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intff import plots

Run = Callable[..., Any]
SHORT = ("train", "--dataset", "digits", "--architecture", "64,(12,8),(6)", "--epochs", "2", "--jitter", "0")


def test_train_draws_the_run(intff: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.svg"
    done = intff(*SHORT, "--plot", file)
    assert done.code == 0
    assert f"the figure is in {file}" in done.out
    svg = file.read_text()
    assert "IntFF (64,(12,8),(6)) on digits; test accuracy " in svg
    assert all(f"<!-- {text} -->" in svg for text in ("unit 1: (12,8)", "unit 2: (6)", "2"))


@pytest.mark.parametrize("name", ["run.pdf", "run", "nowhere/run.svg"])
def test_a_figure_that_cannot_be_written_is_told_before_the_training(intff: Run, tmp_path: Path, name: str) -> None:
    done = intff(*SHORT, "--plot", tmp_path / name)
    assert done.code == 2
    assert name in done.err
    assert "images from" not in done.err


def test_without_matplotlib_this_is_told_before_the_training(
    intff: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    done = intff(*SHORT, "--plot", tmp_path / "run.svg")
    assert done.code == 1
    assert "pip install 'intff[train]'" in done.err
    assert "images from" not in done.err
