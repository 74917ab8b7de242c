import pytest
import torch

from intff.build import build_network
from intff.inference import accuracy, score
from intff.seeds import seeded
from intff.spec import read_spec

OVERLAY = {"kind": "intff", "label_encoding": "overlay", "negatives": {"kind": "wrong_label", "count": 1}}


@pytest.mark.parametrize(
    ("architecture", "algorithm"),
    [
        ("64,(1000),10", "intff"),
        ("64,(500),10", OVERLAY),
        ("64,(500),10", {"kind": "intff", "label_encoding": "embedding", "negatives": "random_label"}),
        ("64,(11C3,P2),(12)", "intff"),
        ("64,(11C3,P2),(12)", OVERLAY),
    ],
)
def test_scoring_in_pieces_is_scoring_at_once(architecture: str, algorithm: object) -> None:
    """Of 1, 10, 10, 1 and 10 rows of activations each, so that pieces hold 500, 100, 100, 200 and 20 images."""
    network = build_network(read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm}))
    images = torch.randint(256, (1030, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    scores = score(network, images)
    assert network.training  # as it was before
    with torch.no_grad():
        whole = network.eval()(images / 255)
    for column, expected in zip(scores, whole, strict=True):
        assert (column is None) == (expected is None)
        if column is not None:
            assert torch.allclose(column, expected, rtol=1e-5, atol=1e-6)
            assert not column.requires_grad


@pytest.mark.parametrize("architecture", ["64,(11)", "64,(20)"])
def test_no_images_have_no_scores(architecture: str) -> None:
    network = build_network(read_spec({"dataset": "digits", "architecture": architecture}))
    scores = score(network, torch.zeros((0, 1, 8, 8), dtype=torch.uint8))
    assert scores.goodness is not None
    assert scores.goodness.shape == (0, 10)


def test_bytes_and_floats_of_the_same_image_score_the_same() -> None:
    network = build_network(read_spec({"dataset": "digits", "architecture": "64,9", "algorithm": "bp"}))
    images = torch.randint(256, (3, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    as_bytes, as_floats = score(network, images), score(network, images.float() / 255)
    assert as_bytes.unit_goodness is None
    assert torch.equal(as_bytes.ranking, as_floats.ranking)


def test_accuracy_counts_every_image_not_the_mean_of_pieces() -> None:
    """Of 1001 images only the last, alone in its piece, is named right: 1 in 1001."""
    network = build_network(read_spec({"dataset": "digits", "architecture": "64,9", "algorithm": "bp"}))
    images = torch.randint(256, (1001, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    said = score(network, images).ranking.argmax(dim=1)
    labels = (said + 1) % 10
    labels[-1] = said[-1]
    assert accuracy(network, images, labels) == 1 / 1001
