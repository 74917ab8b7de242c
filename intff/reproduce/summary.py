"""Summaries of the finished runs of rows: accuracy over seeds, and differences between rows, paired by seed."""

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
    """The results of a row with at least one finished run; accuracies are 0 to 1."""

    row: Row
    rate: float
    """The learning rate chosen by validation accuracy."""
    by_seed: dict[int, float]
    """Test accuracy by seed."""
    test: Sample
    validation: Sample
    seconds: Sample
    metrics: list[dict[str, Any]]
    """Epoch metrics of the first seed."""
    diverged: tuple[int, ...] = ()
    """Seeds whose runs diverged; the means exclude them."""

    @property
    def kind(self) -> str:
        """The algorithm."""
        kind: str = self.row.spec.algorithm.kind
        return kind

    @property
    def architecture(self) -> str:
        """The architecture in the paper's notation, with a softmax layer as its last number.

        For FF and BP it is a list of layers without parentheses.
        """
        spec = self.row.spec
        written = write(spec.architecture.input_size, spec.architecture.model_dump(mode="json")["units"])
        has_head = isinstance(spec.algorithm, BP) or spec.algorithm.classifier == "softmax"
        head = f",{len(spec.dataset.labels)}" if has_head else ""
        return (written if self.kind == "intff" else written.replace("(", "").replace(")", "")) + head


def summarise(row: Row, records: Records) -> Summary | None:
    """Summarise the row's finished runs with its chosen learning rate; None if there are none."""
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
    """The summaries of all rows that have a finished run, in the plan's order."""
    return [found for row in rows if (found := summarise(row, records)) is not None]


@dataclass(frozen=True)
class Difference:
    """The difference between two rows over the seeds that both have."""

    ours: Summary
    theirs: Summary
    gap: Sample

    @property
    def verdict(self) -> str:
        """The conclusion that the confidence interval supports."""
        if self.gap.low is None or self.gap.high is None:
            return "one seed decides nothing"
        if self.gap.low > 0:
            return "above"
        if self.gap.high < 0:
            return "below"
        return "no difference shown"

    @property
    def paper(self) -> float | None:
        """The same difference in the paper's results; None unless it has both."""
        ours, theirs = self.ours.row.paper, self.theirs.row.paper
        return None if ours is None or theirs is None else ours - theirs

    @property
    def order(self) -> str:
        """Whether the paper's order of the two rows is confirmed; empty if it has none."""
        if not self.paper:
            return ""
        if self.verdict not in ("above", "below"):
            return "the paper's order is not shown"
        return f"the paper's order {'holds' if (self.paper > 0) == (self.verdict == 'above') else 'is reversed'}"


def difference(ours: Summary, theirs: Summary) -> Difference | None:
    """Compare two rows; None if they share no seed."""
    gaps = differences(ours.by_seed, theirs.by_seed)
    return Difference(ours, theirs, sample(gaps)) if gaps else None


def difference_of_falls(ours: tuple[Summary, Summary], theirs: tuple[Summary, Summary]) -> Sample | None:
    """How much larger our loss of accuracy from the first of two rows to the second is than theirs, paired by seed."""
    falls = [
        dict(zip(sorted(seeds), differences(first.by_seed, second.by_seed), strict=True))
        for first, second in (ours, theirs)
        if (seeds := first.by_seed.keys() & second.by_seed.keys())
    ]
    gaps = differences(*falls) if len(falls) == len((ours, theirs)) else []
    return sample(gaps) if gaps else None


def best(of: list[Summary], kind: str) -> Summary | None:
    """The row with the highest validation accuracy among those of an algorithm."""
    rows = [found for found in of if found.kind == kind]
    return max(rows, key=lambda found: found.validation.mean, default=None)
