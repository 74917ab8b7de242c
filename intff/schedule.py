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


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
