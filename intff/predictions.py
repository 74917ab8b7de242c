"""Predictions in the form that every interface returns; independent of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Outputs(NamedTuple):
    """A model's outputs for a batch of images; None for outputs that the model does not have."""

    goodness: Floats | None = None
    """The weighted sum over hidden units, [images, labels]"""
    unit_goodness: Floats | None = None
    """[images, units, labels]"""
    probability_positive: Floats | None = None
    """sigma(goodness - theta), the paper's likelihood (section 3.2), [images, labels]"""
    probabilities: Floats | None = None
    """Probabilities of a softmax classifier, [images, labels]"""


@dataclass  # not frozen: creating a frozen one takes six times as long
class Prediction:
    """The prediction for one image; lists are indexed by label, `unit_goodness` by unit and then by label."""

    label: str
    goodness: list[float] | None
    probability_positive: list[float] | None
    margin: float
    """The highest goodness in this prediction (or probability, with a softmax classifier) minus the second highest."""
    unit_goodness: list[list[float]] | None
    probabilities: list[float] | None


def predictions(outputs: Outputs, labels: Sequence[str]) -> list[Prediction]:
    """Convert a model's outputs to one prediction per image.

    The label is the one with the highest probability if there is a softmax classifier, else the highest goodness.
    """
    columns: list[Any] = [None if column is None else column.tolist() for column in outputs]
    of_goodness, *_, of_softmax = columns
    ranking = of_goodness if of_softmax is None else of_softmax
    found = []
    # In pure Python, which is faster than NumPy for ten numbers.
    for scores, goodness, unit_goodness, positive, probabilities in zip(
        ranking, *(repeat(None) if column is None else column for column in columns), strict=False
    ):
        best = max(scores)
        winner = scores.index(best)
        margin = best - max(scores[:winner] + scores[winner + 1 :])
        found.append(Prediction(labels[winner], goodness, positive, margin, unit_goodness, probabilities))
    return found
