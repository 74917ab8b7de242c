"""Executes a plan: first the tuning of the learning rates, then every seed; runs on record are not repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from intff.errors import IntffError
from intff.reproduce.plan import RATES, Row
from intff.reproduce.records import Outcome, Record, Records, key
from intff.reproduce.runners import Runner
from intff.spec import TrainSpec


@dataclass(frozen=True)
class Run:
    """One training run of a row."""

    row: Row
    spec: TrainSpec
    is_tuning: bool

    @property
    def name(self) -> str:
        """A readable name."""
        if self.is_tuning:
            return f"{self.row.name} learning rate {self.spec.training.learning_rate}"
        return f"{self.row.name} seed {self.spec.training.seed}"


Said = Callable[[Run, Outcome | IntffError], None]
"""Called with every run that has just ended and its outcome or error."""


def tuning_runs(rows: Iterable[Row]) -> list[Run]:
    """The runs that tune the rows' learning rates, without duplicates."""
    tuned = dict.fromkeys(row.tuned_as or row for row in rows)
    runs = [Run(row, row.tuning(rate), is_tuning=True) for rate in RATES for row in tuned]
    return list({key(run.spec): run for run in runs}.values())


def result_runs(rows: Sequence[Row], records: Records, seeds: int | None = None) -> list[Run]:
    """The reported runs of the rows that have a learning rate: the first seed of every row, then the second, and so on.

    Args:
        rows: of the plan.
        records: contain the tuning runs.
        seeds: number of seeds for every row, instead of the row's own number.
    """
    rates = {row.name: chosen_rate(row, records) for row in rows}
    counts = {row.name: row.seeds if seeds is None else seeds for row in rows}
    runs = [
        Run(row, row.run(seed, rate), is_tuning=False)
        for seed in range(max(counts.values(), default=0))
        for row in rows
        if (rate := rates[row.name]) is not None and seed < counts[row.name]
    ]
    return list({key(run.spec): run for run in runs}.values())


def chosen_rate(row: Row, records: Records) -> float | None:
    """The learning rate with the highest validation accuracy, the lowest one of ties.

    None if a tuning run is missing or all diverged. The test accuracy of tuning runs is not recorded.
    """
    row = row.tuned_as or row
    found = [(rate, records.find(row.tuning(rate))) for rate in RATES]
    accuracies: dict[float, float] = {}
    for rate, record in found:
        if record is None:
            return None
        if record.outcome.result is not None:
            accuracies[rate] = record.outcome.result["validation_accuracy"]
    return max(accuracies, key=lambda rate: accuracies[rate], default=None)


def pending(runs: Iterable[Run], records: Records) -> list[Run]:
    """The runs without a record."""
    return [run for run in runs if records.find(run.spec) is None]


def execute(runs: Sequence[Run], records: Records, runner: Runner, *, at_once: int, said: Said) -> bool:
    """Execute the runs that have no record, and record each as soon as it ends.

    A failed run does not stop the others; another call with the same records retries it.

    Args:
        runs: in the order in which they start.
        records: of earlier runs; the new ones are added.
        runner: executes the runs.
        at_once: number of parallel runs.
        said: called when a run ends.

    Returns:
        Whether all runs are recorded now.
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting: dict[Future[Outcome], Run] = {}
        try:
            waiting |= {pool.submit(runner, run.spec, run.name): run for run in pending(runs, records)}
            # A list, because `all` on a generator would stop at the first failed run.
            return all([_ended(future, waiting[future], records, said) for future in _as_they_end(waiting)])  # noqa: C419
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise


def _as_they_end(waiting: Iterable[Future[Outcome]]) -> Iterable[Future[Outcome]]:
    left = set(waiting)
    while left:
        ended, left = wait(left, return_when=FIRST_COMPLETED)
        yield from ended


def _ended(future: Future[Outcome], run: Run, records: Records, said: Said) -> bool:
    try:
        outcome = future.result()
    except IntffError as error:
        said(run, error)
        return False
    if run.is_tuning and outcome.result is not None:
        blind = {name: value for name, value in outcome.result.items() if name != "test_accuracy"}
        outcome = replace(outcome, result=blind)
    records.add(Record(run.spec, outcome))
    said(run, outcome)
    return True
