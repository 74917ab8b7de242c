"""Number formatting for the report; a dash stands for the missing spread of a single run."""

from __future__ import annotations

from intff.reproduce.statistics import Sample


def percent(share: float) -> str:
    """A share as a percentage with two decimals."""
    return f"{100 * share:.2f}"


def spread(of: Sample) -> str:
    """The standard deviation in percent."""
    return "-" if of.deviation is None else f"{100 * of.deviation:.2f}"


def interval(of: Sample, *, signed: bool = False) -> str:
    """The confidence interval in percent, or with signs in percentage points."""
    if of.low is None or of.high is None:
        return "-"
    return f"{100 * of.low:+.2f} to {100 * of.high:+.2f}" if signed else f"{100 * of.low:.2f} to {100 * of.high:.2f}"
