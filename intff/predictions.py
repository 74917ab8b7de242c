"""What a model says of an image, in the form in which every interface answers; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """A model's outputs for some images; None where the model has no such thing."""

    goodness: Floats | None = None
    """The sum over hidden units, each times its weight, [images, labels]"""
    unit_goodness: Floats | None = None
    """[images, units, labels]"""
    probability_positive: Floats | None = None
    """sigma(goodness - theta), the paper's likelihood (section 3.2), [images, labels]"""
    probabilities: Floats | None = None
    """Of a softmax classifier, [images, labels]"""


@dataclass  # not frozen: that takes six times as long to make
class Prediction:
    """One image's prediction; lists are by label, `unit_goodness` by unit and then by label."""

    label: str
    goodness: list[float] | None
    probability_positive: list[float] | None
    margin: float
    """The winner's goodness (or probability, of a softmax classifier) minus the runner-up's, as they stand here."""
    unit_goodness: list[list[float]] | None
    probabilities: list[float] | None


def predictions(outputs: Outputs, labels: Sequence[str]) -> list[Prediction]:
    """Turn a model's outputs into one prediction for each image.

    The label is the one with the highest probability of a softmax classifier, where there is one, else goodness.
    """
    columns: list[Any] = [None if column is None else column.tolist() for column in outputs]
    of_goodness, *_, of_softmax = columns
    ranking = of_goodness if of_softmax is None else of_softmax
    found = []
    # In Python, since NumPy takes longer for ten numbers.
    for scores, goodness, unit_goodness, positive, probabilities in zip(
        ranking, *(repeat(None) if column is None else column for column in columns), strict=False
    ):
        best = max(scores)
        winner = scores.index(best)
        margin = best - max(scores[:winner] + scores[winner + 1 :])
        found.append(Prediction(labels[winner], goodness, positive, margin, unit_goodness, probabilities))
    return found
