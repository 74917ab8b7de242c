"""How the learning rate changes over a run."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]
"""Maps the share of the run that is done, 0 to 1, to a factor of the learning rate."""


def constant(done: float) -> float:
    """The learning rate as it is."""
    del done
    return 1.0


def cosine(done: float) -> float:
    """From one down to zero along half a cosine."""
    return (1 + cos(pi * done)) / 2


def hold_then_decay(done: float) -> float:
    """As it is for half of the run, then down to zero in a straight line."""
    return min(1.0, 2 * (1 - done))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "hold_then_decay": hold_then_decay}


def warmed_up(schedule: Schedule, share: float) -> Schedule:
    """A schedule before which the learning rate rises from zero in a straight line.

    Args:
        schedule: for the rest of the run.
        share: of the run in which the learning rate rises, below 1.
    """

    def factor(done: float) -> float:
        return done / share if done < share else schedule((done - share) / (1 - share))

    return factor if share else schedule
