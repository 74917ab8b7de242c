import numpy as np
import pytest

from intff.predictions import Outputs, predictions


def test_the_highest_goodness_wins_by_its_margin() -> None:
    outputs = Outputs(
        goodness=np.array([[0.5, 2.0, 1.25], [3.0, 1.0, 2.5]], np.float32),
        unit_goodness=np.array([[[0.5, 1.0, 0.25], [0.0, 1.0, 1.0]], [[1, 1, 1], [2, 0, 1.5]]], np.float32),
        probability_positive=np.array([[0.25, 0.5, 0.75], [0.5, 0.5, 0.5]], np.float32),
    )
    first, second = predictions(outputs, ["cat", "dog", "owl"])
    assert first.label == "dog"
    assert first.margin == 0.75
    assert first.goodness == [0.5, 2.0, 1.25]
    assert first.unit_goodness == [[0.5, 1.0, 0.25], [0.0, 1.0, 1.0]]
    assert first.probability_positive == [0.25, 0.5, 0.75]
    assert first.probabilities is None
    assert (second.label, second.margin) == ("cat", 0.5)


def test_a_softmax_classifiers_probabilities_decide() -> None:
    outputs = Outputs(
        goodness=np.array([[9.0, 1.0]], np.float32),
        unit_goodness=np.array([[[9.0, 1.0]]], np.float32),
        probability_positive=np.array([[1.0, 0.5]], np.float32),
        probabilities=np.array([[0.25, 0.75]], np.float32),
    )
    (prediction,) = predictions(outputs, ["a", "b"])
    assert prediction.label == "b"
    assert prediction.margin == 0.5
    assert prediction.goodness == [9.0, 1.0]


def test_a_network_without_goodness_has_none() -> None:
    (prediction,) = predictions(Outputs(probabilities=np.array([[0.5, 0.25, 0.25]], np.float32)), "xyz")
    assert prediction.label == "x"
    assert prediction.margin == pytest.approx(0.25)
    assert prediction.goodness is None
    assert prediction.unit_goodness is None
    assert prediction.probability_positive is None
