"""What a row's finished runs come to: its accuracy over seeds, and how far it is from another row, seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intff.notation import write
from intff.reproduce.plan import Row
from intff.reproduce.records import Records
from intff.reproduce.runs import chosen_rate
from intff.reproduce.statistics import Sample, differences, sample
from intff.spec import BP


@dataclass(frozen=True)
class Summary:
    """A row with at least one finished run; accuracies are 0 to 1."""

    row: Row
    rate: float
    """The learning rate that validation chose."""
    by_seed: dict[int, float]
    """Test accuracy."""
    test: Sample
    validation: Sample
    seconds: Sample
    metrics: list[dict[str, Any]]
    """The epochs of the first seed."""
    diverged: tuple[int, ...] = ()
    """Seeds whose runs diverged; they are in no mean."""

    @property
    def kind(self) -> str:
        """The algorithm."""
        kind: str = self.row.spec.algorithm.kind
        return kind

    @property
    def architecture(self) -> str:
        """In the paper's notation, a softmax layer as its last number.

        A plain list of layers where a unit is a layer, or all layers are one unit.
        """
        spec = self.row.spec
        written = write(spec.architecture.input_size, spec.architecture.model_dump(mode="json")["units"])
        has_head = isinstance(spec.algorithm, BP) or spec.algorithm.classifier == "softmax"
        head = f",{len(spec.dataset.labels)}" if has_head else ""
        return (written if self.kind == "intff" else written.replace("(", "").replace(")", "")) + head


def summarise(row: Row, records: Records) -> Summary | None:
    """Sum up the row's finished runs with the rate that it chose; None before the first."""
    rate = chosen_rate(row, records)
    if rate is None:
        return None
    found = dict(records.seeds_of(row.run(0, rate)))
    results = {seed: record.outcome.result or {} for seed, record in found.items()}
    results = {seed: result for seed, result in results.items() if "test_accuracy" in result}
    if not results:
        return None
    by_seed = {seed: float(result["test_accuracy"]) for seed, result in results.items()}
    first = found[min(results)].outcome
    return Summary(
        row=row,
        rate=rate,
        by_seed=by_seed,
        test=sample(list(by_seed.values())),
        validation=sample([float(result["validation_accuracy"]) for result in results.values()]),
        seconds=sample([float(result["train_seconds"]) for result in results.values()]),
        metrics=first.metrics,
        diverged=tuple(seed for seed, record in found.items() if record.outcome.error is not None),
    )


def summaries(rows: tuple[Row, ...], records: Records) -> list[Summary]:
    """Of every row that has a finished run, in the plan's order."""
    return [found for row in rows if (found := summarise(row, records)) is not None]


@dataclass(frozen=True)
class Difference:
    """One row minus another over the seeds that both have."""

    ours: Summary
    theirs: Summary
    gap: Sample

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.gap.low is None or self.gap.high is None:
            return "one seed decides nothing"
        if self.gap.low > 0:
            return "above"
        if self.gap.high < 0:
            return "below"
        return "no difference shown"

    @property
    def paper(self) -> float | None:
        """The same difference between the paper's figures, where it has both."""
        ours, theirs = self.ours.row.paper, self.theirs.row.paper
        return None if ours is None or theirs is None else ours - theirs

    @property
    def order(self) -> str:
        """What becomes of the paper's order of the two; empty where it has none."""
        if not self.paper:
            return ""
        if self.verdict not in ("above", "below"):
            return "the paper's order is not shown"
        return f"the paper's order {'holds' if (self.paper > 0) == (self.verdict == 'above') else 'is reversed'}"


def difference(ours: Summary, theirs: Summary) -> Difference | None:
    """Compare two rows; None where they share no seed."""
    gaps = differences(ours.by_seed, theirs.by_seed)
    return Difference(ours, theirs, sample(gaps)) if gaps else None


def difference_of_falls(ours: tuple[Summary, Summary], theirs: tuple[Summary, Summary]) -> Sample | None:
    """How much more accuracy we lose than they from the first of two rows to the second, seed by seed."""
    falls = [
        dict(zip(sorted(seeds), differences(first.by_seed, second.by_seed), strict=True))
        for first, second in (ours, theirs)
        if (seeds := first.by_seed.keys() & second.by_seed.keys())
    ]
    gaps = differences(*falls) if len(falls) == len((ours, theirs)) else []
    return sample(gaps) if gaps else None


def best(of: list[Summary], kind: str) -> Summary | None:
    """The row of an algorithm with the highest validation accuracy."""
    rows = [found for found in of if found.kind == kind]
    return max(rows, key=lambda found: found.validation.mean, default=None)
