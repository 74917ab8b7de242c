"""Small real runs through the whole of `intff reproduce`: rates, seeds, records, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intff.errors import IntffError
from intff.reproduce import plan, report
from intff.reproduce.plan import EXPERIMENTS, RATES, Experiment, Row
from intff.reproduce.records import Outcome, Record, RecordDamaged, Records, key
from intff.reproduce.runners import LocalRunner, RunFailed
from intff.reproduce.runs import chosen_rate, execute, pending, result_runs, tuning_runs
from intff.reproduce.summary import difference, summaries, summarise
from intff.reproduce.sweep import falls
from intff.spec import TrainSpec, read_spec

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
        ([0.9, 0.95, 0.85], "No difference is shown between"),
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
def test_a_kill_in_the_middle_costs_only_the_run_under_way(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    command = [sys.executable, str(Path(__file__).with_name("small_row.py")), "--out", str(folder), "--json"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.json"))) < 2:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    children = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=False)
    running.kill()
    running.wait()
    while any(_lives(int(child)) for child in children.stdout.split()):  # a run ends with whoever started it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kept = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.glob("*.json")}
    assert 2 <= len(kept) < 5  # of three rates and two seeds

    again = subprocess.run(command, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert [event["event"] for event in events] == ["ended"] * (5 - len(kept)) + ["row"]
    assert (events[-1]["row"], events[-1]["seeds"], events[-1]["paper"]) == ("ours", 2, 0.5)
    assert len(list(folder.glob("*.json"))) == 5
    assert all((file.read_bytes(), file.stat().st_mtime_ns) == was for file, was in kept.items())

    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    assert [json.loads(line)["done"] for line in dry.stdout.splitlines()] == [True] * 5


def test_a_stopped_runner_ends_what_it_runs_and_begins_nothing() -> None:
    runner = LocalRunner()
    spec = read_spec({**SMALL, "training": {"epochs": 100_000, "device": "cpu"}})
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(runner, spec, "endless")
        while not runner._processes:
            time.sleep(0.01)
        runner.stop()
        with pytest.raises(RunFailed, match="its process ended with exit code -15 and no result"):
            under_way.result(timeout=60)
    with pytest.raises(RunFailed):
        runner(spec, "endless")


def test_a_run_that_diverges_is_on_record_and_in_no_mean(tmp_path: Path) -> None:
    records = Records(tmp_path)
    _recorded(records, OURS, RATES[0], [0.9, 0.92])
    records.add(Record(OURS.run(2, RATES[0]), Outcome(None, [], {"code": "diverged", "message": "NaN"})))
    found = summarise(OURS, records)
    assert found is not None
    assert (found.by_seed, found.diverged) == ({0: 0.9, 1: 0.92}, (2,))
    assert pending(result_runs([OURS], records, seeds=3), records) == []


@pytest.mark.parametrize(
    ("ours", "papers", "order"),
    [
        ([0.95, 0.951, 0.952], (0.98, 0.97), "the paper's order holds"),
        ([0.95, 0.951, 0.952], (0.97, 0.98), "the paper's order is reversed"),
        ([0.9, 0.95, 0.85], (0.97, 0.98), "the paper's order is not shown"),
        ([0.95, 0.951, 0.952], (0.97, None), ""),
    ],
)
def test_the_papers_order_is_held_against_the_interval(
    tmp_path: Path, ours: list[float], papers: tuple[float, float | None], order: str
) -> None:
    records = Records(tmp_path)
    rows = replace(OURS, paper=papers[0]), replace(THEIRS, paper=papers[1])
    _recorded(records, rows[0], RATES[0], ours)
    _recorded(records, rows[1], RATES[0], [0.9, 0.902, 0.901])
    first, second = (summarise(row, records) for row in rows)
    assert first is not None
    assert second is not None
    found = difference(first, second)
    assert found is not None
    assert found.order == order


def _sweep_rows() -> list[Row]:
    return [
        Row(f"{kind} {share}", str(share), {**SMALL, "algorithm": kind, "noise": noise}, corrupted=share)
        for kind in ("intff", "bp")
        for share, noise in ((0.0, "none"), (0.75, "paper_mixture"))
    ]


@pytest.mark.parametrize(
    ("corrupted", "said"),
    [
        # Ours fall by 0.020, 0.021 and 0.022, theirs by 0.010 each: 0.011 more on average, s 0.001, and t of two
        # degrees of freedom 4.302653 makes the half width 0.002484.
        ([0.960, 0.959, 0.958], "loses more than BP: +1.10 points (+0.85 to +1.35, 3 seeds)"),
        # Falls of 0.001, 0.002 and 0.003 are 0.008 less.
        ([0.979, 0.978, 0.977], "loses less than BP: -0.80 points (-1.05 to -0.55, 3 seeds)"),
        # Falls of 0.009, 0.010 and 0.011 are the same.
        (
            [0.971, 0.970, 0.969],
            "no difference is shown between what IntFF and BP lose: +0.00 points (-0.25 to +0.25, 3 seeds)",
        ),
    ],
)
def test_who_loses_more_by_corruption_is_told_by_seed(tmp_path: Path, corrupted: list[float], said: str) -> None:
    records = Records(tmp_path)
    tests = ([0.98] * 3, corrupted, [0.99] * 3, [0.98] * 3)
    for row, accuracies in zip(_sweep_rows(), tests, strict=True):
        _recorded(records, row, RATES[0], accuracies)
    assert said in falls(summaries(tuple(_sweep_rows()), records))


def test_a_rate_at_the_end_of_the_grid_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path)
    _recorded(records, OURS, RATES[2], [0.9, 0.91])
    _recorded(records, THEIRS, RATES[1], [0.9, 0.91])
    small = Experiment("Small", (OURS, THEIRS))
    monkeypatch.setattr(report, "EXPERIMENTS", dict.fromkeys(("table1", "table2", "figure3", "noise-sweep"), small))
    text = report.write_report(records, tmp_path / "docs")[0].read_text()
    assert "chose the lowest or highest rate offered, so a better one may lie beyond: ours (0.01)." in text


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
