"""Means over seeds with confidence intervals, and paired differences by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sample:
    """Summary statistics of several runs."""

    count: int
    mean: float
    deviation: float | None
    """Sample standard deviation (n - 1); None for fewer than two runs."""
    half_width: float | None
    """Half the width of the 95 % confidence interval of the mean (Student's t); None for fewer than two runs."""

    @property
    def low(self) -> float | None:
        """Lower end of the confidence interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """Upper end of the confidence interval."""
        return None if self.half_width is None else self.mean + self.half_width


def sample(values: Sequence[float]) -> Sample:
    """Summarise independent runs: mean, standard deviation s, and the confidence interval mean +- t s / sqrt(n).

    Args:
        values: at least one.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 -- slow to load, and `intff reproduce --help` needs none of it

    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Sample(count, mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    t = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return Sample(count, mean, deviation, t * deviation / math.sqrt(count))


def differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Ours minus theirs for every seed that both have; both use the same data split and noise for a seed."""
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
