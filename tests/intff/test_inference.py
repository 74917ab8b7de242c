import pytest
import torch

from intff.build import build_network
from intff.inference import accuracy, score
from intff.networks import Network
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
    """Of 1 row of activations each, or 10, so that pieces hold 20 to 1000 images, and the last one fewer."""
    compare_with_a_pass_at_once(
        build_network(read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm}))
    )


def compare_with_a_pass_at_once(network: Network) -> None:
    images = torch.randint(256, (2030, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    scores = score(network, images)
    assert network.training  # as it was before
    with torch.no_grad():
        whole = network.eval()(images / 255)
    for column, expected in zip(scores, whole, strict=True):
        assert (column is None) == (expected is None)
        if column is not None:
            assert torch.allclose(column, expected, rtol=1e-5, atol=1e-6)
            assert not column.requires_grad


@pytest.mark.parametrize(
    ("units", "algorithm"),
    [
        ([[50, 20, 500], [30, 40, 20]], OVERLAY | {"classifier": "softmax"}),
        ([[20, 30], [500, 40], [30, 20]], {"kind": "intff", "classifier": "softmax"}),
        ([[30, 30], [30, 30]], {"kind": "intff", "label_encoding": "embedding", "negatives": "random_label"}),
        ([[30, 30], [30, 30]], OVERLAY | {"normalization": "layer"}),
        ([[20, 500, 30, 30, 40]], "bp"),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_no_layer_overwrites_what_is_still_needed(
    units: list[list[int]], algorithm: dict[str, object] | str, activation: str
) -> None:
    """Layers write into memory that layers before them have read; the first two activations work in place as well."""
    architecture = {"units": units, "activation": activation}
    spec = read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm})
    compare_with_a_pass_at_once(build_network(spec))


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
    """Of 2001 images only the last, alone in its piece, is named right: 1 in 2001."""
    network = build_network(read_spec({"dataset": "digits", "architecture": "64,9", "algorithm": "bp"}))
    images = torch.randint(256, (2001, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    said = score(network, images).ranking.argmax(dim=1)
    labels = (said + 1) % 10
    labels[-1] = said[-1]
    assert accuracy(network, images, labels) == 1 / 2001
