"""The noise sweep in the report: its table, its figure's curves, and who loses more by corruption."""

from __future__ import annotations

from intff.plots import Curve
from intff.reproduce.summary import Summary, difference, difference_of_falls
from intff.reproduce.wording import interval, percent, spread


def curves(sweep: list[Summary]) -> list[Curve]:
    """Accuracy against the share of corrupted images for each algorithm, with the mean's confidence interval."""
    found = []
    for kind in ("intff", "bp", "ff"):
        points = [
            (each.row.corrupted, each.test) for each in sweep if each.kind == kind and each.row.corrupted is not None
        ]
        if points:
            shares, samples = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            found.append(
                Curve(
                    name={"intff": "IntFF", "bp": "BP", "ff": "FF"}[kind],
                    x=shares,
                    y=[each.mean for each in samples],
                    low=[each.mean if each.low is None else each.low for each in samples],
                    high=[each.mean if each.high is None else each.high for each in samples],
                )
            )
    return found


def table(sweep: list[Summary]) -> str:
    """A line for each share."""
    shares = sorted({each.row.corrupted for each in sweep if each.row.corrupted is not None})
    lines = ["| corrupted | IntFF | BP | FF | IntFF minus BP |", "|---|---|---|---|---|"]
    for share in shares:
        of = {each.kind: each for each in sweep if each.row.corrupted == share}
        cells = [
            f"{percent(of[k].test.mean)} (s {spread(of[k].test)})" if k in of else "-" for k in ("intff", "bp", "ff")
        ]
        gap = difference(of["intff"], of["bp"]) if {"intff", "bp"} <= of.keys() else None
        cells.append(f"{100 * gap.gap.mean:+.2f} ({interval(gap.gap, signed=True)})" if gap else "-")
        lines.append(f"| {100 * share:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def falls(sweep: list[Summary]) -> str:
    """Which of IntFF and BP loses more from the smallest to the largest share: the more robust one loses less."""
    shares = sorted({each.row.corrupted for each in sweep if each.row.corrupted is not None})
    if not shares or shares[0] == shares[-1]:
        return ""
    of = {(each.kind, each.row.corrupted): each for each in sweep}
    wanted = [(kind, share) for kind in ("intff", "bp") for share in (shares[0], shares[-1])]
    if not all(pair in of for pair in wanted):
        return ""
    clean, corrupted, bp_clean, bp_corrupted = (of[pair] for pair in wanted)
    gap = difference_of_falls((clean, corrupted), (bp_clean, bp_corrupted))
    if gap is None or gap.low is None or gap.high is None:
        return "There are too few seeds to tell whether IntFF or BP loses less by corruption.\n"
    said = (
        "IntFF loses less than BP"
        if gap.high < 0
        else "IntFF loses more than BP"
        if gap.low > 0
        else "no difference is shown between what IntFF and BP lose"
    )
    return (
        f"From {100 * shares[0]:.0f} to {100 * shares[-1]:.0f} % corrupted images, {said}: "
        f"{100 * gap.mean:+.2f} points ({interval(gap, signed=True)}, {gap.count} seeds).\n"
    )
