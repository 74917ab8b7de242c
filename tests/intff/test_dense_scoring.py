"""The scorer of dense networks against the networks' own pass, in float64, where rounding hides nothing."""

from __future__ import annotations

import pytest
import torch

from intff import dense_scoring
from intff.build import build_network
from intff.dense_scoring import DenseScorer
from intff.goodness import GOODNESS
from intff.inference import score
from intff.layers import ACTIVATIONS
from intff.networks import Network
from intff.normalization import NORMALIZATIONS
from intff.seeds import seeded
from intff.spec import read_spec

ENCODINGS: dict[str, dict[str, object]] = {
    "overlay": {"label_encoding": "overlay", "negatives": "wrong_label"},
    "embedding": {"label_encoding": "embedding", "negatives": "random_label"},
    "groups": {"label_encoding": "groups"},
}


def network_of(units: list[list[int]], algorithm: dict[str, object], activation: str = "silu") -> Network:
    architecture = {"units": units, "activation": activation}
    spec = {"dataset": "digits", "architecture": architecture, "algorithm": {"kind": "intff"} | algorithm}
    network = build_network(read_spec(spec)).double().eval()
    with torch.no_grad():  # as after some training
        for number, weight in enumerate(network.parameters()):
            weight.add_(torch.rand(weight.shape, generator=seeded(number, "test")), alpha=0.1)
    return network


def compare(network: Network, monkeypatch: pytest.MonkeyPatch, activations: int) -> None:
    """For 53 images, in pieces of so many activations."""
    monkeypatch.setattr(dense_scoring, "ACTIVATIONS_AT_ONCE", activations)
    images = torch.rand((53, 1, 8, 8), generator=seeded(0, "images"), dtype=torch.float64)
    with torch.inference_mode():
        found, expected = DenseScorer(network)(images), network(images)
    for mine, its_own in zip(found, expected, strict=True):
        assert (mine is None) == (its_own is None)
        if mine is not None:
            assert torch.allclose(mine, its_own, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("goodness", GOODNESS)
@pytest.mark.parametrize("activations", [1, 30 * 10 * 5, 10**6])
def test_its_scores_are_the_networks_own(
    encoding: str, normalization: str, goodness: str, activations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image by image; in pieces of 5 images or 50, so that the last one is shorter; and all at once."""
    algorithm = ENCODINGS[encoding] | {"normalization": normalization, "goodness": goodness}
    network = network_of([[20, 30], [30, 30, 20]], algorithm)
    compare(network, monkeypatch, activations)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_whether_an_activation_works_in_place_or_not(
    encoding: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With layers of one width, which share their two buffers, and groups that are not even."""
    network = network_of([[33], [33, 33, 33], [33, 33]], ENCODINGS[encoding] | {"classifier": "softmax"}, activation)
    compare(network, monkeypatch, 33 * 10 * 4)


def test_it_is_for_dense_goodness_networks_only() -> None:
    assert DenseScorer.applies_to(network_of([[20], [30]], {}))
    for architecture, algorithm in (("64,(4C3,P2),(20)", "intff"), ("64,20", "bp")):
        spec = {"dataset": "digits", "architecture": architecture, "algorithm": algorithm}
        assert not DenseScorer.applies_to(build_network(read_spec(spec)))


def test_it_sees_the_weights_as_they_are_now() -> None:
    """A scorer of many images is made anew each time."""
    network = network_of([[20], [30]], {}).float()
    images = torch.rand((300, 1, 8, 8), generator=seeded(0, "images"))
    before = score(network, images).ranking
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1)
    after = score(network, images).ranking
    assert not torch.allclose(before, after)
    with torch.no_grad():
        assert torch.allclose(after, network(images).ranking, rtol=1e-5)
