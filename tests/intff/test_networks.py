import pytest
import torch

from intff.goodness import mean_square
from intff.labels import Overlay
from intff.layers import dense, rms_scale
from intff.networks import BackpropNetwork, GoodnessNetwork, Scores
from intff.seeds import seeded
from intff.units import HiddenUnit


def _network(*, head: bool) -> GoodnessNetwork:
    generator = seeded(0, "test")
    units = [
        HiddenUnit([dense(9, 5, generator), dense(5, 4, generator)], rms_scale),
        HiddenUnit([dense(4, 2, generator)], rms_scale),
    ]
    return GoodnessNetwork(units, Overlay(3, 2.0), mean_square, dense(6, 3, generator) if head else None, rms_scale)


def test_every_label_is_tried_on_every_image() -> None:
    """Against one plain pass for each label, the goodness of each unit's output."""
    network, images = _network(head=False), torch.rand((4, 9), generator=seeded(0, "images"))
    scores = network(images)
    assert scores.logits is None
    assert scores.unit_goodness is not None
    assert scores.unit_goodness.shape == (4, 2, 3)
    for label in range(3):
        overlaid = images.clone()
        overlaid[:, :3] = 0
        overlaid[:, label] = 2.0
        first = network.units[0](overlaid)
        second = network.units[1](first)
        plain = torch.stack([first.square().mean(dim=1), second.square().mean(dim=1)], dim=1)
        assert torch.allclose(scores.unit_goodness[:, :, label], plain, rtol=1e-5, atol=1e-6)


def test_the_first_pixels_of_an_image_play_no_part() -> None:
    network, images = _network(head=True), torch.rand((4, 9), generator=seeded(0, "images"))
    scribbled = images.clone()
    scribbled[:, :3] = 0.7
    before, after = network(images), network(scribbled)
    assert torch.equal(before.unit_goodness, after.unit_goodness)
    assert torch.equal(before.logits, after.logits)


def test_the_softmax_layer_sees_all_units_normalised_activations_for_a_neutral_label() -> None:
    network, images = _network(head=True), torch.rand((4, 9), generator=seeded(0, "images"))
    neutral = images.clone()
    neutral[:, :3] = 2.0 / 3
    first = network.units[0](neutral)
    second = network.units[1](first)
    normal = [hidden / (hidden.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() for hidden in (first, second)]
    assert network.head is not None
    logits = network(images).logits
    assert logits is not None
    assert torch.allclose(logits, network.head(torch.cat(normal, dim=1)), rtol=1e-5, atol=1e-5)


def test_goodness_is_the_sum_over_units_and_logits_decide_where_there_are_any() -> None:
    unit_goodness = torch.tensor([[[1.0, 2.0], [0.5, 0.25]]])
    logits = torch.tensor([[3.0, -3.0]])
    assert Scores(unit_goodness, None).goodness.tolist() == [[1.5, 2.25]]  # type: ignore[union-attr]  # it is there
    assert Scores(unit_goodness, None).ranking.tolist() == [[1.5, 2.25]]
    assert Scores(unit_goodness, logits).ranking.tolist() == [[3.0, -3.0]]
    assert Scores(None, logits).goodness is None


def test_backpropagations_network_by_hand() -> None:
    network = BackpropNetwork([torch.nn.Linear(2, 2)], torch.nn.Linear(2, 1))
    values = ([[1.0, 1.0], [-1.0, -1.0]], [0.0, 1.0], [[2.0, 3.0]], [0.5])
    with torch.no_grad():
        for weight, given in zip(network.parameters(), values, strict=True):
            weight.copy_(torch.tensor(given))
    scores = network(torch.tensor([[0.5, 0.25], [1.0, 1.0]]))
    assert scores.unit_goodness is None
    assert scores.logits.tolist() == [pytest.approx([2 * 0.75 + 3 * 0.25 + 0.5]), pytest.approx([4.5])]
