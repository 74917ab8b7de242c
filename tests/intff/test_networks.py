from typing import Any

import pytest
import torch
from torch import Tensor

from intff.goodness import mean_square, sum_square
from intff.labels import Embedding, Groups, LabelEncoding, Overlay
from intff.layers import ACTIVATIONS, Attention, Convolution, Dense, Layer, MaxPool, linear
from intff.networks import BackpropNetwork, GoodnessNetwork, Scores
from intff.normalization import layer, rms
from intff.seeds import seeded
from intff.units import HiddenUnit

IMAGES = torch.rand((4, 1, 3, 3), generator=seeded(0, "images"))
PICTURES = torch.rand((4, 1, 4, 4), generator=seeded(0, "pictures"))
RELU = ACTIVATIONS["relu"]


def _network(*, head: bool, encoding: LabelEncoding | None = None) -> GoodnessNetwork:
    """Units of 5 and 4, and of 3 neurons; the second unit counts half as much again."""
    generator = seeded(0, "test")

    def embedding(size: int) -> Tensor | None:
        return torch.randn((3, size), generator=generator) if isinstance(encoding, Embedding) else None

    units = [
        HiddenUnit([Dense(9, 5, RELU, generator), Dense(5, 4, RELU, generator)], rms, embedding(5)),
        HiddenUnit([Dense(4, 3, RELU, generator)], rms, embedding(3)),
    ]
    return GoodnessNetwork(
        units,
        encoding=encoding or Overlay(3, 2.0),
        goodness=mean_square,
        classes=3,
        head=linear(7, 3, generator) if head else None,
        normalization=rms,
        unit_weights=torch.tensor([1.0, 1.5]),
    )


def _convolutional(encoding: LabelEncoding, *, head: bool) -> GoodnessNetwork:
    """Units of a convolution and pooling, a convolution and attention, and a dense layer."""
    generator = seeded(0, "test")
    options: dict[str, Any] = {"kernel": (3, 3), "stride": 1, "zeros": (1, 1, 1, 1), "batch_norm": False}

    def convolution(inputs: int, channels: int) -> Convolution:
        return Convolution(inputs=inputs, channels=channels, activation=RELU, generator=generator, **options)

    built: list[list[Layer]] = [
        [convolution(1, 4), MaxPool(2)],
        [convolution(4, 6), Attention((6, 2, 2), 2, generator)],
        [Dense(24, 5, RELU, generator)],
    ]
    embeddings = [torch.randn((3, size), generator=generator) for size in (4, 6, 5)]
    return GoodnessNetwork(
        [HiddenUnit(layers, layer, vectors) for layers, vectors in zip(built, embeddings, strict=True)],
        encoding=encoding,
        goodness=sum_square,
        classes=3,
        head=linear(15, 3, generator) if head else None,
        normalization=layer,
        unit_weights=torch.ones(3),
    )


def test_every_label_is_tried_on_every_image() -> None:
    """Against one plain pass for each label, the goodness of each unit's output."""
    network = _network(head=False)
    scores = network(IMAGES)
    assert scores.logits is None
    assert scores.unit_goodness is not None
    assert scores.unit_goodness.shape == (4, 2, 3)
    for label in range(3):
        overlaid = IMAGES.flatten(1).clone()
        overlaid[:, :3] = 0
        overlaid[:, label] = 2.0
        first = network.units[0](overlaid)
        second = network.units[1](first)
        plain = torch.stack([first.square().mean(dim=1), second.square().mean(dim=1)], dim=1)
        assert torch.allclose(scores.unit_goodness[:, :, label], plain, rtol=1e-5, atol=1e-6)


def test_every_label_is_tried_by_its_vectors() -> None:
    """Against one plain pass for each label with its vector in every unit."""
    network = _network(head=False, encoding=Embedding())
    scores = network(IMAGES)
    for label in range(3):
        one = torch.tensor([[label]])
        first = network.units[0].forward_embedded(IMAGES, one)
        second = network.units[1].forward_embedded(first, one)
        plain = torch.stack([first.square().mean(dim=1), second.square().mean(dim=1)], dim=1)
        assert torch.allclose(scores.unit_goodness[:, :, label], plain, rtol=1e-5, atol=1e-6)


def test_groups_tell_every_label_in_one_pass() -> None:
    """Groups of 2, 1 and 1 of the first unit's four neurons, and one each of the second's three."""
    network = _network(head=False, encoding=Groups(3))
    scores = network(IMAGES)
    first = network.units[0](IMAGES)
    second = network.units[1](first)
    squares = first.square()
    plain = torch.stack([squares[:, :2].mean(dim=1), squares[:, 2], squares[:, 3]], dim=1)
    assert torch.allclose(scores.unit_goodness, torch.stack([plain, second.square()], dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoding", [Overlay(3, 2.0), Embedding(), Groups(3)], ids=["overlay", "embedding", "groups"])
def test_some_labels_goodness_is_that_of_all(encoding: LabelEncoding) -> None:
    dense, convolutional = _network(head=False, encoding=encoding), _convolutional(encoding, head=False)
    for network, images in ((dense, IMAGES), (convolutional, PICTURES)):
        every = network.unit_goodness(images)
        labels = torch.tensor([[2, 0], [1, 1], [0, 2], [2, 2]])
        some = network.label_goodness(images, labels)
        wanted = every.gather(2, labels.unsqueeze(1).expand(-1, every.shape[1], -1))
        assert torch.allclose(some, wanted, rtol=1e-4, atol=1e-5)
        assert bool((every.std(dim=2) > 1e-4).all())  # the labels do differ


def test_the_first_pixels_of_an_image_play_no_part_under_an_overlay() -> None:
    for network, images in ((_network(head=True), IMAGES), (_convolutional(Overlay(3, 2.0), head=True), PICTURES)):
        scribbled = images.clone()
        scribbled[:, 0, 0, :3] = 0.7
        before, after = network(images), network(scribbled)
        assert torch.equal(before.unit_goodness, after.unit_goodness)
        assert torch.equal(before.logits, after.logits)


@pytest.mark.parametrize("encoding", [Embedding(), Groups(3)], ids=["embedding", "groups"])
def test_elsewhere_they_are_pixels_like_others(encoding: LabelEncoding) -> None:
    network, scribbled = _network(head=True, encoding=encoding), IMAGES.clone()
    scribbled[:, 0, 0] = 0.7
    before, after = network(IMAGES), network(scribbled)
    assert not torch.equal(before.unit_goodness, after.unit_goodness)
    assert not torch.equal(before.logits, after.logits)


def test_the_softmax_layer_sees_all_units_normalised_activations_for_a_neutral_label() -> None:
    network = _network(head=True)
    neutral = IMAGES.flatten(1).clone()
    neutral[:, :3] = 2.0 / 3
    first = network.units[0](neutral)
    second = network.units[1](first)
    normal = [hidden / (hidden.square().mean(dim=1, keepdim=True) + 1e-6).sqrt() for hidden in (first, second)]
    assert network.head is not None
    logits = network(IMAGES).logits
    assert logits is not None
    assert torch.allclose(logits, network.head(torch.cat(normal, dim=1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoding", [Overlay(3, 2.0), Embedding(), Groups(3)], ids=["overlay", "embedding", "groups"])
def test_it_sees_the_mean_of_each_channel(encoding: LabelEncoding) -> None:
    """Four and six channels and five neurons, each normalised by its own mean and deviation."""
    network = _convolutional(encoding, head=True)
    normal = []
    for hidden in network.activations(PICTURES, None):
        pooled = hidden.flatten(2).mean(dim=2) if hidden.ndim == 4 else hidden
        centred = pooled - pooled.mean(dim=1, keepdim=True)
        normal.append(centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt())
    assert [hidden.shape[1] for hidden in normal] == [4, 6, 5]
    assert network.head is not None
    wanted = network.head(torch.cat(normal, dim=1))
    assert torch.allclose(network.logits(PICTURES), wanted, rtol=1e-4, atol=1e-4)


def test_each_units_shape_is_its_layers() -> None:
    network = _convolutional(Groups(3), head=False)
    shapes = [tuple(hidden.shape) for hidden in network.activations(PICTURES, None)]
    assert shapes == [(4, 4, 2, 2), (4, 6, 2, 2), (4, 5)]


def test_goodness_is_the_sum_over_units_as_they_count() -> None:
    network = _network(head=False)
    unit_goodness = torch.tensor([[[1.0, 2.0, 0.0], [0.5, 0.25, 4.0]]])
    assert network.weighted(unit_goodness).tolist() == [[1.75, 2.375, 6.0]]
    scores = network(IMAGES)
    assert torch.allclose(scores.goodness, scores.unit_goodness[:, 0] + 1.5 * scores.unit_goodness[:, 1])


def test_logits_decide_where_there_are_any() -> None:
    unit_goodness = torch.tensor([[[1.0, 2.0], [0.5, 0.25]]])
    goodness, logits = torch.tensor([[1.5, 2.25]]), torch.tensor([[3.0, -3.0]])
    assert Scores(unit_goodness, goodness, None).ranking.tolist() == [[1.5, 2.25]]
    assert Scores(unit_goodness, goodness, logits).ranking.tolist() == [[3.0, -3.0]]
    assert Scores(None, None, logits).ranking.tolist() == [[3.0, -3.0]]


def test_what_the_units_count_is_saved_with_the_weights_but_not_learnt() -> None:
    network = _network(head=False)
    assert network.state_dict()["unit_weights"].tolist() == [1.0, 1.5]
    assert all(name != "unit_weights" for name, _ in network.named_parameters())


def test_backpropagations_network_by_hand() -> None:
    generator = seeded(0, "test")
    network = BackpropNetwork([Dense(2, 2, RELU, generator)], linear(2, 1, generator))
    values = ([[1.0, 1.0], [-1.0, -1.0]], [0.0, 1.0], [[2.0, 3.0]], [0.5])
    with torch.no_grad():
        for weight, given in zip(network.parameters(), values, strict=True):
            weight.copy_(torch.tensor(given))
    scores = network(torch.tensor([[0.5, 0.25], [1.0, 1.0]]).view(2, 1, 1, 2))
    assert scores.unit_goodness is None
    assert scores.goodness is None
    assert scores.logits.tolist() == [pytest.approx([2 * 0.75 + 3 * 0.25 + 0.5]), pytest.approx([4.5])]


def test_backpropagations_images_are_normalised_where_it_says_so() -> None:
    """(1, 7) becomes (-1, 1), and is seen as it is without."""
    generator = seeded(0, "test")
    head = linear(1, 1, generator)
    hidden = Dense(2, 1, RELU, generator)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[1.0, 2.0]]))
        head.weight.fill_(1.0)
    image = torch.tensor([[[[1.0, 7.0]]]])
    assert BackpropNetwork([hidden], head, layer)(image).logits.tolist() == [pytest.approx([1.0], rel=1e-5)]
    assert BackpropNetwork([hidden], head)(image).logits.tolist() == [[15.0]]


def test_backpropagation_reads_the_last_maps_row_by_row() -> None:
    generator = seeded(0, "test")
    network = BackpropNetwork([MaxPool(2)], linear(4, 2, generator))
    images = torch.rand((3, 1, 4, 4), generator=generator)
    corners = [images[:, 0, down : down + 2, right : right + 2].amax(dim=(1, 2)) for down in (0, 2) for right in (0, 2)]
    assert torch.allclose(network.logits(images), network.head(torch.stack(corners, dim=1)))
