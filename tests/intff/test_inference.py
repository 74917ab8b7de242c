import torch

from intff.build import build_network
from intff.inference import accuracy, score
from intff.seeds import seeded
from intff.spec import read_spec


def test_scoring_in_pieces_is_scoring_at_once() -> None:
    spec = read_spec({"dataset": "digits", "architecture": "64,(9),10"})
    network = build_network(spec)
    images = torch.randint(256, (2300, 1, 8, 8), generator=seeded(0, "test")).to(torch.uint8)
    scores = score(network, images)
    whole = network(images.flatten(1) / 255)
    assert scores.unit_goodness is not None
    assert scores.logits is not None
    assert torch.allclose(scores.unit_goodness, whole.unit_goodness, rtol=1e-5, atol=1e-6)
    assert torch.allclose(scores.logits, whole.logits, rtol=1e-5, atol=1e-6)
    assert not scores.logits.requires_grad


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
