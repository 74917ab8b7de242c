"""What `intff reproduce` tells before it runs anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_dry_run_lists_the_plan_and_touches_nothing(intff: Run, tmp_path: Path) -> None:
    done = intff("reproduce", "noise-sweep", "--out", tmp_path / "runs", "--json", "--dry-run")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) == 9  # three algorithms at three rates; the seeds wait for them
    assert {line["event"] for line in lines} == {"planned"}
    assert not any(line["done"] for line in lines)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("noise-sweep", "--only", "nonsense"), "noise-sweep has no row nonsense; it has sweep_intff_0, "),
        (("table9",), "'table9' is not one of"),
        (("table1", "--seeds", "0"), "0 is not in the range"),
    ],
)
def test_wrong_usage_says_what_would_do(intff: Run, arguments: tuple[str, ...], says: str) -> None:
    done = intff("reproduce", *arguments)
    assert done.code == 2
    assert says in done.err


def test_without_runs_there_is_nothing_to_report(intff: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, code, says in (
        ("nothing", 1, "contains no finished runs"),
        ("file", 2, "must be a folder for the finished runs"),
    ):
        done = intff("reproduce", "report", "--out", tmp_path / out, "--docs", tmp_path / "docs")
        assert done.code == code
        assert says in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
