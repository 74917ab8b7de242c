"""Small real runs through the whole of `intff reproduce`: rates, seeds, records, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intff.errors import IntffError
from intff.reproduce import plan, report
from intff.reproduce.plan import EXPERIMENTS, RATES, Experiment, Row
from intff.reproduce.records import Outcome, Record, RecordDamaged, Records, key
from intff.reproduce.runners import LocalRunner
from intff.reproduce.runs import chosen_rate, execute, pending, result_runs, tuning_runs
from intff.reproduce.summary import difference, summarise
from intff.spec import TrainSpec

SMALL: dict[str, Any] = {
    "dataset": "digits",
    "architecture": "64,(20),(10)",
    "training": {"epochs": 3, "device": "cpu"},
}
OURS = Row("ours", "small", {**SMALL, "algorithm": "intff"}, paper=0.5, seeds=2)
THEIRS = Row("theirs", "small", {**SMALL, "algorithm": "bp"}, seeds=2)


def _quietly(run: object, end: object) -> None:
    del run
    assert not isinstance(end, IntffError), end


def _recorded(records: Records, row: Row, rate: float, tests: list[float]) -> None:
    """As if the row had chosen a rate and been run."""
    for each in RATES:
        result = {"validation_accuracy": 0.9 if each == rate else 0.8, "train_seconds": 1.0}
        records.add(Record(row.tuning(each), Outcome(result, [])))
    for seed, test in enumerate(tests):
        result = {"validation_accuracy": 0.95, "test_accuracy": test, "train_seconds": 10.0}
        metrics = [
            {
                "epoch": epoch,
                "unit_losses": [1 / epoch, 2 / epoch],
                "unit_goodness_positive": [1.0, 2.0],
                "unit_goodness_negative": [0.5, 0.25],
                "validation_accuracy": 0.9,
            }
            for epoch in (1, 2)
        ]
        records.add(Record(row.run(seed, rate), Outcome(result, metrics)))


@pytest.mark.slow
def test_a_row_chooses_its_rate_and_runs_its_seeds_once(tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert execute(tuning_runs([OURS]), records, LocalRunner(), at_once=2, said=_quietly)
    rate = chosen_rate(OURS, records)
    assert rate in RATES
    for each in RATES:
        found = records.find(OURS.tuning(each))
        assert found is not None
        assert found.outcome.result is not None
        assert "test_accuracy" not in found.outcome.result  # nothing can be chosen by it
    runs = result_runs([OURS], records)
    assert [run.spec.training.seed for run in runs] == [0, 1]
    assert execute(runs, records, LocalRunner(), at_once=2, said=_quietly)

    again = Records(tmp_path)  # as another process would read it
    assert pending([*tuning_runs([OURS]), *result_runs([OURS], again)], again) == []
    summary = summarise(OURS, again)
    assert summary is not None
    assert (summary.rate, summary.test.count) == (rate, 2)
    assert len(summary.metrics) == 3


def test_the_rate_is_chosen_by_validation_the_lower_of_equals(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for rate, accuracy in zip(RATES, (0.7, 0.9, 0.9), strict=True):
        assert chosen_rate(OURS, records) is None
        records.add(Record(OURS.tuning(rate), Outcome({"validation_accuracy": accuracy, "train_seconds": 1.0}, [])))
    assert chosen_rate(OURS, records) == RATES[1]


def test_all_rows_of_a_seed_have_the_same_split_and_passes() -> None:
    for experiment in ("table1", "table2"):
        groups: dict[str, set[tuple[Any, ...]]] = {}
        for row in EXPERIMENTS[experiment].rows:
            spec = row.run(3, 0.001)
            rules = (spec.dataset, spec.noise, spec.training)
            groups.setdefault(row.group, set()).add(rules)
        assert all(len(rules) == 1 for rules in groups.values()), experiment


def test_the_sweep_trains_at_the_shares_that_it_says() -> None:
    rows = EXPERIMENTS["noise-sweep"].rows
    assert [row.spec.noise.as_mixture().share for row in rows] == [row.corrupted for row in rows]
    assert len({key(row.spec) for row in rows}) == len(rows) == 12


def test_a_difference_is_of_the_seeds_that_both_have(tmp_path: Path) -> None:
    """Gaps of 0.02 and 0.04: mean 0.03, s 0.0141421, t of one degree of freedom 12.7062, half width 0.127062."""
    records = Records(tmp_path)
    _recorded(records, OURS, RATES[0], [0.90, 0.94, 0.99])
    _recorded(records, THEIRS, RATES[1], [0.88, 0.90])
    ours, theirs = summarise(OURS, records), summarise(THEIRS, records)
    assert ours is not None
    assert theirs is not None
    found = difference(ours, theirs)
    assert found is not None
    assert found.gap.mean == pytest.approx(0.03)
    assert found.gap.half_width == pytest.approx(0.127062, rel=1e-4)
    assert found.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.95, 0.951, 0.952], "is above"),
        ([0.85, 0.851, 0.852], "is below"),
        ([0.9, 0.95, 0.85], "no difference shown"),
    ],
)
def test_the_page_says_what_the_numbers_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: list[float], verdict: str
) -> None:
    records = Records(tmp_path / "runs")
    _recorded(records, OURS, RATES[0], ours)
    _recorded(records, THEIRS, RATES[1], [0.9, 0.902, 0.901])
    rows = (OURS, replace(THEIRS, paper=0.99), Row("never", "small", {**SMALL, "algorithm": "ff"}, seeds=4))
    small = Experiment("Small", rows)
    monkeypatch.setattr(report, "EXPERIMENTS", dict.fromkeys(("table1", "table2", "figure3", "noise-sweep"), small))

    page, *figures = report.write_report(records, tmp_path / "docs")

    text = page.read_text()
    assert f"**{100 * sum(ours) / 3:.2f}**" in text
    assert verdict in text
    assert "Below the paper's figure: theirs." in text
    assert "never (0 of 4)" in text
    assert "unit 1: 1.000 to 0.500, unit 2: 2.000 to 1.000" in text
    assert all(figure.read_bytes().startswith(b"<?xml") for figure in figures)


def test_a_file_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "0123.json").write_text("{}")
    with pytest.raises(RecordDamaged, match=r"0123\.json is not the record of a run.*move it away"):
        Records(tmp_path)


def test_every_row_of_the_plan_can_be_run() -> None:
    for experiment in EXPERIMENTS.values():
        for row in experiment.rows:
            assert isinstance(row.run(0, plan.RATES[0]), TrainSpec)
    assert {row.name for row in EXPERIMENTS["table1"].rows} >= {"intff_conv", "bp_conv", "intff_attention"}


@pytest.mark.slow
def test_the_command_plans_stops_and_goes_on(tmp_path: Path) -> None:
    """A kill in the middle costs only the run under way."""
    command = [
        str(Path(sys.executable).with_name("intff")),
        "reproduce",
        "noise-sweep",
        "--out",
        str(tmp_path / "runs"),
        "--json",
    ]
    planned = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in planned.stdout.splitlines()]
    assert len(lines) == 9  # three algorithms at three rates; the seeds wait for them
    assert not any(line["done"] for line in lines)
    running = subprocess.Popen([*command, "--only", "sweep_bp_0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)
    children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=False)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 10
    for child in map(int, children.stdout.split()):  # a run ends with whoever started it
        while _lives(child):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    wrong = subprocess.run([*command, "--only", "nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "has no row nonsense" in wrong.stderr


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
