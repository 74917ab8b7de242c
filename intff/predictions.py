"""What a model says of an image, in the form in which every interface answers; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """A model's outputs for some images; None where the model has no such thing."""

    goodness: Floats | None = None
    """The sum over hidden units, each times its weight, [images, labels]"""
    unit_goodness: Floats | None = None
    """[images, units, labels]"""
    probability_positive: Floats | None = None
    """sigma(goodness - theta), the paper's likelihood (section 3.2), [images, labels]"""
    probabilities: Floats | None = None
    """Of a softmax classifier, [images, labels]"""

    @property
    def ranking(self) -> Floats:
        """What decides the label: the softmax's probabilities where there are any, else the goodness."""
        ranking = self.goodness if self.probabilities is None else self.probabilities
        assert ranking is not None
        return ranking


@dataclass(frozen=True)
class Prediction:
    """One image's prediction; lists are by label, `unit_goodness` by unit and then by label."""

    label: str
    goodness: list[float] | None
    probability_positive: list[float] | None
    margin: float
    """The winner's goodness (or probability, of a softmax classifier) minus the runner-up's."""
    unit_goodness: list[list[float]] | None
    probabilities: list[float] | None


def predictions(outputs: Outputs, labels: Sequence[str]) -> list[Prediction]:
    """Turn a model's outputs into one prediction for each image."""
    places = [_first_two(scores) for scores in outputs.ranking.tolist()]
    columns = (outputs.goodness, outputs.probability_positive, outputs.unit_goodness, outputs.probabilities)
    rows = [[None] * len(places) if column is None else column.tolist() for column in columns]
    return [
        Prediction(labels[winner], goodness, positive, margin, unit_goodness, probabilities)
        for (winner, margin), goodness, positive, unit_goodness, probabilities in zip(places, *rows, strict=True)
    ]


def _first_two(scores: list[float]) -> tuple[int, float]:
    """The winner, and by how much it wins; in Python, since NumPy takes longer for ten numbers."""
    best = max(scores)
    winner = scores.index(best)
    second = max(scores[:winner] + scores[winner + 1 :])
    return winner, float(np.float32(best) - np.float32(second))
