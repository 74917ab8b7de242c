"""`intff reproduce --url`: the rates and the seeds of a row as jobs of the embedded service."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SMALL_ROW = Path(__file__).parents[1] / "intff/reproduce/small_row.py"


def reproduce(folder: Path, *options: str) -> list[dict[str, object]]:
    command = [sys.executable, str(SMALL_ROW), "--json", "--out", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_row_by_jobs_is_the_row_of_this_machine(embedded: str, tmp_path: Path) -> None:
    by_jobs = reproduce(tmp_path / "jobs", "--url", embedded, "--jobs", "3")
    here = reproduce(tmp_path / "here")
    assert [event["event"] for event in by_jobs] == ["ended"] * 5 + ["row"]
    row, same = by_jobs[-1], here[-1]
    assert row["seeds"] == 2
    assert {**row, "train_seconds": 0} == {**same, "train_seconds": 0}  # the same accuracies, bit for bit

    records = {file.name: json.loads(file.read_text()) for file in (tmp_path / "jobs").glob("*.json")}
    assert records.keys() == {file.name for file in (tmp_path / "here").glob("*.json")}
    assert all(len(record["metrics"]) in (1, 3) for record in records.values())
    assert all(record["build"]["job"].startswith("job_") for record in records.values())
    blind = [record for record in records.values() if record["spec"]["training"]["seed"] == 1000]
    assert len(blind) == 3
    assert not any("test_accuracy" in record["result"] for record in blind)

    again = reproduce(tmp_path / "jobs", "--url", embedded)
    assert [event["event"] for event in again] == ["row"]
