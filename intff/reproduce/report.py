"""The page of results and its figures, from the runs on record; what it says follows from the numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from intff.plots import accuracy_against_noise, figure3
from intff.reproduce.plan import EXPERIMENTS, RATES, Row
from intff.reproduce.records import Records
from intff.reproduce.summary import Difference, Summary, best, difference, summaries
from intff.reproduce.sweep import curves, falls, table
from intff.reproduce.wording import interval, percent, spread

_HEAD = """# Results

Written by `intff reproduce report`. Every number in the tables comes from the runs on record, except the paper's
figures.

All rows of a table are trained under the same rules: the same split (55,000 training and 5,000 validation images of
MNIST, drawn by the seed), the same number of epochs for the rows that are compared, Adam, a cosine schedule, and
images shifted by up to one pixel. Each row chose its learning rate from {rates} by validation accuracy, in a run of a
third of the epochs (rounded down) with a seed that is not reported. The test images were looked at once, at the end of
each run.

Accuracies are in percent: the mean over the seeds, the standard deviation s, and the 95 % confidence interval of the
mean (Student's t). Algorithms are compared seed by seed, each by its row that is best on the validation images. The
interval of a difference holds for that comparison alone, not for all of them together, and for these 10,000 test
images; it says nothing about other images. Seconds are those of the training steps ({machines}). Other work may have
run on the same machine, so take them as rough; [performance](performance.md) compares times under equal conditions.

IntFF and FF represent labels as groups of outputs (`label_encoding`, decision 0008). Rows named *overlay* write the
label into the image, as the paper does. With groups the local loss is a cross-entropy, which has no theta.
Backpropagation has the same layers and normalises its images as the hidden units do; *relu* rows have the paper's
activation where the others have SiLU. The paper writes its small network as 784,100,50,30,10 for every algorithm: here
backpropagation has all four as layers, and the softmax after them. Where images of pure noise are added, an epoch is
longer, for every algorithm alike (decision 0003).
"""


def write_report(records: Records, folder: Path) -> list[Path]:
    """Write `results.md` and `figures/` into a folder, over what was there.

    Returns:
        The files written.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = [_HEAD.format(rates=", ".join(map(str, RATES)), machines="; ".join(records.machines()) or "none yet")]
    written: list[Path] = []
    for name in ("table1", "table2"):
        experiment = EXPERIMENTS[name]
        found = summaries(experiment.rows, records)
        parts += [_heading(name), _table(found), *_comparisons(found), _at_the_ends(found)]
        parts.append(_missing(experiment.rows, found))
    parts.append(_heading("figure3"))
    for each in summaries(EXPERIMENTS["figure3"].rows, records):
        file = figures / f"figure3_{each.row.name}.svg"
        file.write_bytes(figure3(each.metrics, spec=each.row.spec.model_dump(mode="json")))
        written.append(file)
        parts.append(f"{_losses(each)}\n\n![{each.architecture}](figures/{file.name})\n")
    sweep = summaries(EXPERIMENTS["noise-sweep"].rows, records)
    parts.append(_heading("noise-sweep"))
    if sweep:
        file = figures / "noise_sweep.svg"
        file.write_bytes(accuracy_against_noise(curves(sweep)))
        written.append(file)
        parts += [table(sweep), falls(sweep), f"![accuracy against noise](figures/{file.name})\n"]
    parts.append(_missing(EXPERIMENTS["noise-sweep"].rows, sweep))
    page = folder / "results.md"
    page.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    return [page, *written]


def _heading(name: str) -> str:
    experiment = EXPERIMENTS[name]
    return f"## {experiment.title}\n" + (f"\n{experiment.note}\n" if experiment.note else "")


def _table(found: list[Summary]) -> str:
    lines = [
        "| row | network | epochs | rate | test | s | 95 % | seeds | validation | seconds | paper |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.row.name} | {each.kind} {each.architecture} | {each.row.spec.training.epochs} | {each.rate:g} "
        f"| **{percent(each.test.mean)}** | {spread(each.test)} | {interval(each.test)} | {each.test.count} "
        f"| {percent(each.validation.mean)} | {each.seconds.mean:.0f} "
        f"| {percent(each.row.paper) if each.row.paper else '-'} |"
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
    if below:
        yield f"Below the paper's figure: {names}.\n"
    elif any(each.row.paper for each in found):
        yield "No row that has a figure in the paper is below it.\n"


def _sentence(pair: Difference) -> str:
    ours, theirs = f"`{pair.ours.row.name}`", f"`{pair.theirs.row.name}`"
    said = {
        "above": f"{ours} is above {theirs}",
        "below": f"{ours} is below {theirs}",
        "no difference shown": f"No difference is shown between {ours} and {theirs}",
    }.get(pair.verdict, f"{ours} and {theirs} cannot be compared: {pair.verdict}")
    paper = f"; in the paper {100 * pair.paper:+.2f}, {pair.order}" if pair.paper else ""
    return (
        f"{said}: {100 * pair.gap.mean:+.2f} points ({interval(pair.gap, signed=True)}, {pair.gap.count} seeds{paper})."
    )


def _losses(found: Summary) -> str:
    if not found.metrics:
        return ""
    first, last = found.metrics[0]["unit_losses"], found.metrics[-1]["unit_losses"]
    told = ", ".join(
        f"unit {number}: {begins:.3f} to {ends:.3f}"
        for number, (begins, ends) in enumerate(zip(first, last, strict=True), start=1)
    )
    return f"Mean local loss of {found.row.name} in the first and the last epoch, first seed: {told}."


def _at_the_ends(found: list[Summary]) -> str:
    names = [f"{each.row.name} ({each.rate:g})" for each in found if each.rate in (RATES[0], RATES[-1])]
    return (
        f"These rows chose the lowest or highest rate offered, so a better one may lie beyond: {', '.join(names)}.\n"
        if names
        else ""
    )


def _missing(rows: tuple[Row, ...], found: list[Summary]) -> str:
    have = {each.row.name: each.test.count for each in found}
    short = [
        f"{row.name} ({have.get(row.name, 0)} of {row.seeds})" for row in rows if have.get(row.name, 0) < row.seeds
    ]
    lost = [f"{each.row.name} ({len(each.diverged)})" for each in found if each.diverged]
    sentences = [f"With fewer seeds than planned: {', '.join(short)}.\n"] if short else []
    sentences += [f"Diverged, and left out of the means: {', '.join(lost)}.\n"] if lost else []
    return "\n".join(sentences)
