"""The page of results and its figures, from the runs on record; what it says follows from the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from intff.plots import Curve, accuracy_against_noise, figure3
from intff.reproduce.plan import EXPERIMENTS, RATES, Row
from intff.reproduce.records import Records
from intff.reproduce.statistics import Sample
from intff.reproduce.summary import Difference, Summary, best, difference, summaries

_HEAD = """# Results

Written by `intff reproduce report` from the runs on record; nothing here is typed by hand.

All rows of a table are trained under the same rules: the same split (55,000 training and 5,000 validation images of
MNIST, drawn by the seed), the same number of passes for the rows that are compared, Adam, a cosine, images shifted by
up to one pixel. Each row chose its learning rate from {rates} by validation accuracy, in a run of a third of the passes
with a seed that is not reported. The test images were looked at once, at the end of each run. Accuracies are in
percent: mean over seeds, standard deviation s, and the 95 % confidence interval of the mean (Student's t). Seconds are
those of the training steps, one thread, on a machine that had other work to do: they order the rows, no more.

IntFF and FF meet labels as groups (`label_encoding`, decision 0008) unless a row says *overlay*, which is the paper's
own way. Backpropagation has the same layers and normalises its images like the hidden units do; *relu* rows have the
paper's activation where the others have SiLU.
"""


def write_report(records: Records, folder: Path) -> list[Path]:
    """Write `results.md` and `figures/` into a folder, over what was there.

    Returns:
        The files written.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD.format(rates=", ".join(map(str, RATES)))]
    written: list[Path] = []
    for name in ("table1", "table2"):
        experiment = EXPERIMENTS[name]
        found = summaries(experiment.rows, records)
        parts += [f"## {experiment.title}\n", _table(found), *_comparisons(found), _missing(experiment.rows, found)]
    parts.append(f"## {EXPERIMENTS['figure3'].title}\n")
    for each in summaries(EXPERIMENTS["figure3"].rows, records):
        file = figures / f"figure3_{each.row.name}.svg"
        file.write_bytes(figure3(each.metrics, spec=each.row.spec.model_dump(mode="json")))
        written.append(file)
        parts.append(f"{_losses(each)}\n\n![{each.architecture}](figures/{file.name})\n")
    sweep = summaries(EXPERIMENTS["noise-sweep"].rows, records)
    parts.append(f"## {EXPERIMENTS['noise-sweep'].title}\n")
    if sweep:
        file = figures / "noise_sweep.svg"
        file.write_bytes(accuracy_against_noise(_curves(sweep)))
        written.append(file)
        parts += [_sweep_table(sweep), f"![accuracy against noise](figures/{file.name})\n"]
    parts.append(_missing(EXPERIMENTS["noise-sweep"].rows, sweep))
    page = folder / "results.md"
    page.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return [page, *written]


def _table(found: list[Summary]) -> str:
    lines = [
        "| row | network | passes | rate | test | s | 95 % | seeds | validation | seconds | paper |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.row.name} | {each.kind} {each.architecture} | {each.row.spec.training.epochs} | {each.rate:g} "
        f"| **{_percent(each.test.mean)}** | {_spread(each.test)} | {_interval(each.test)} | {each.test.count} "
        f"| {_percent(each.validation.mean)} | {each.seconds.mean:.0f} "
        f"| {_percent(each.row.paper) if each.row.paper else '-'} |"
        for each in found
    ]
    return "\n".join(lines) + "\n"


def _comparisons(found: list[Summary]) -> Iterable[str]:
    """Sentences on each group: IntFF against BP and FF, by validation the best of each, and against the paper."""
    for group in dict.fromkeys(each.row.group for each in found):
        of = [each for each in found if each.row.group == group]
        ours = best(of, "intff")
        pairs = [difference(ours, theirs) for kind in ("bp", "ff") if ours and (theirs := best(of, kind))]
        sentences = [_sentence(pair) for pair in pairs if pair is not None]
        if sentences:
            yield f"*{group}*: " + " ".join(sentences) + "\n"
    below = [each for each in found if each.row.paper and each.test.mean < each.row.paper]
    names = ", ".join(each.row.name for each in below)
    yield (
        f"Below the paper's figure: {names}.\n"
        if below
        else "No row with a figure in the paper ends below the paper's.\n"
    )


def _sentence(pair: Difference) -> str:
    ours, theirs = f"`{pair.ours.row.name}`", f"`{pair.theirs.row.name}`"
    said = {
        "above": f"{ours} is above {theirs}",
        "below": f"{ours} is below {theirs}",
    }.get(pair.verdict, f"Between {ours} and {theirs} there is {pair.verdict}")
    papers = (pair.ours.row.paper, pair.theirs.row.paper)
    paper = ""
    if papers[0] is not None and papers[1] is not None:
        paper = f"; in the paper {100 * (papers[0] - papers[1]):+.2f}"
    interval = _interval(pair.gap, signed=True)
    return f"{said}: {100 * pair.gap.mean:+.2f} points ({interval}, {pair.gap.count} seeds{paper})."


def _losses(found: Summary) -> str:
    if not found.metrics:
        return ""
    first, last = found.metrics[0]["unit_losses"], found.metrics[-1]["unit_losses"]
    told = ", ".join(
        f"unit {number}: {begins:.3f} to {ends:.3f}"
        for number, (begins, ends) in enumerate(zip(first, last, strict=True), start=1)
    )
    return f"Mean local loss in the first and the last pass of {found.row.name}, first seed: {told}."


def _curves(sweep: list[Summary]) -> list[Curve]:
    curves = []
    for kind in ("intff", "bp", "ff"):
        points = [
            (each.row.corrupted, each.test) for each in sweep if each.kind == kind and each.row.corrupted is not None
        ]
        if points:
            shares, samples = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            curves.append(
                Curve(
                    name={"intff": "IntFF", "bp": "BP", "ff": "FF"}[kind],
                    x=shares,
                    y=[each.mean for each in samples],
                    low=[each.mean if each.low is None else each.low for each in samples],
                    high=[each.mean if each.high is None else each.high for each in samples],
                )
            )
    return curves


def _sweep_table(sweep: list[Summary]) -> str:
    shares = sorted({each.row.corrupted for each in sweep if each.row.corrupted is not None})
    lines = ["| corrupted | IntFF | BP | FF | IntFF minus BP |", "|---|---|---|---|---|"]
    for share in shares:
        of = {each.kind: each for each in sweep if each.row.corrupted == share}
        cells = [
            f"{_percent(of[k].test.mean)} (s {_spread(of[k].test)})" if k in of else "-" for k in ("intff", "bp", "ff")
        ]
        gap = difference(of["intff"], of["bp"]) if {"intff", "bp"} <= of.keys() else None
        cells.append(f"{100 * gap.gap.mean:+.2f} ({_interval(gap.gap, signed=True)})" if gap else "-")
        lines.append(f"| {100 * share:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _missing(rows: tuple[Row, ...], found: list[Summary]) -> str:
    have = {each.row.name: each.test.count for each in found}
    short = [
        f"{row.name} ({have.get(row.name, 0)} of {row.seeds})" for row in rows if have.get(row.name, 0) < row.seeds
    ]
    return f"With fewer seeds than planned: {', '.join(short)}.\n" if short else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _spread(of: Sample) -> str:
    return "-" if of.deviation is None else f"{100 * of.deviation:.2f}"


def _interval(of: Sample, *, signed: bool = False) -> str:
    if of.low is None or of.high is None:
        return "-"
    return f"{100 * of.low:+.2f} to {100 * of.high:+.2f}" if signed else f"{100 * of.low:.2f} to {100 * of.high:.2f}"
