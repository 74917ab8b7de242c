"""Learning rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]
"""Maps the completed fraction of the run, 0 to 1, to a factor of the learning rate."""


def constant(done: float) -> float:
    """One throughout the run."""
    del done
    return 1.0


def cosine(done: float) -> float:
    """From one down to zero along half a cosine."""
    return (1 + cos(pi * done)) / 2


def hold_then_decay(done: float) -> float:
    """One for half of the run, then linearly down to zero."""
    return min(1.0, 2 * (1 - done))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "hold_then_decay": hold_then_decay}


def warmed_up(schedule: Schedule, share: float) -> Schedule:
    """Precede a schedule with a linear warm-up from zero.

    Args:
        schedule: for the rest of the run.
        share: the fraction of the run that the warm-up takes, below 1.
    """

    def factor(done: float) -> float:
        return done / share if done < share else schedule((done - share) / (1 - share))

    return factor if share else schedule
