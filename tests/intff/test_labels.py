from typing import Any

import pytest
import torch
from torch import Tensor

from intff.goodness import mean_square
from intff.labels import Embedding, Groups, LabelEncoding, Overlay
from intff.layers import ACTIVATIONS, Convolution, Dense
from intff.normalization import NORMALIZATIONS
from intff.seeds import seeded
from intff.units import HiddenUnit

IMAGES = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]])
PICTURES = torch.rand((2, 1, 3, 3), generator=seeded(0, "images"))


def _dense(inputs: int = 9) -> HiddenUnit:
    generator = seeded(0, "test")
    layer = Dense(inputs, 4, ACTIVATIONS["silu"], generator)
    return HiddenUnit([layer], NORMALIZATIONS["rms"], torch.randn((3, 4), generator=generator))


def _convolutional() -> HiddenUnit:
    generator = seeded(0, "test")
    options: dict[str, Any] = {"kernel": (2, 2), "stride": 1, "zeros": (0, 0, 0, 0), "batch_norm": False}
    layer = Convolution(inputs=1, channels=4, activation=ACTIVATIONS["silu"], generator=generator, **options)
    return HiddenUnit([layer], NORMALIZATIONS["rms"], torch.randn((3, 4), generator=generator))


def test_a_label_leaves_what_comes_after_its_pixels_row_by_row() -> None:
    assert torch.equal(Overlay(classes=3, value=5.0).rest(IMAGES), torch.tensor([[0.4, 0.5], [0.9, 1.0]]))
    picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert Overlay(classes=1, value=5.0).rest(picture).tolist() == [[2, 3, 4]]


def test_the_labels_pixel_holds_the_value() -> None:
    pixels = Overlay(classes=3, value=5.0).pixels(torch.tensor([[2, 0]]))
    assert pixels.tolist() == [[[0, 0, 5], [5, 0, 0]]]
    assert pixels.dtype == torch.float32


def test_every_variant_of_an_image_carries_its_own_label() -> None:
    overlay = Overlay(classes=2, value=4.0)
    images = torch.tensor([[9.0, 9.0, 0.5], [7.0, 7.0, 0.25]])
    overlaid = overlay.apply(images, torch.tensor([[1, 0], [1, 1]]))
    assert overlaid.tolist() == [[0, 4, 0.5], [4, 0, 0.5], [0, 4, 0.25], [0, 4, 0.25]]
    assert overlay.apply(images, torch.tensor([[0]])).tolist() == [[4, 0, 0.5], [4, 0, 0.25]]
    assert images[0, 0] == 9.0


def test_an_overlaid_picture_keeps_its_shape() -> None:
    overlaid = Overlay(classes=3, value=5.0).apply(torch.ones(1, 1, 2, 2), torch.tensor([[1]]))
    assert overlaid.tolist() == [[[[0, 5], [0, 1]]]]


def test_the_neutral_label_shares_the_value_among_all_classes() -> None:
    assert Overlay(classes=4, value=6.0).pixels(None).tolist() == [[[1.5, 1.5, 1.5, 1.5]]]
    overlaid = Overlay(classes=4, value=6.0).apply(torch.tensor([[9.0, 9.0, 9.0, 9.0, 0.5]]), None)
    assert overlaid.tolist() == [[1.5, 1.5, 1.5, 1.5, 0.5]]


@pytest.mark.parametrize("unit", [_dense(), _convolutional()], ids=["dense", "convolution"])
@pytest.mark.parametrize("labels", [torch.tensor([[0, 2], [1, 1]]), torch.tensor([[2, 0, 1]]), None])
def test_an_overlay_enters_the_first_unit_as_pixels_and_later_ones_not_at_all(
    unit: HiddenUnit, labels: Tensor | None
) -> None:
    overlay = Overlay(3, 5.0)
    first = overlay.first(unit, overlay.prepared(unit, PICTURES, labels), labels)
    assert torch.allclose(first, unit(overlay.apply(PICTURES, labels)), rtol=1e-5, atol=1e-6)
    assert len(first) == 2 * (1 if labels is None else labels.shape[1])
    hidden = torch.rand((4, 1, 3, 3), generator=seeded(1, "images"))
    assert torch.equal(overlay.later(unit, hidden, labels), unit(hidden))


@pytest.mark.parametrize("unit", [_dense(), _convolutional()], ids=["dense", "convolution"])
def test_an_embedding_enters_every_unit_with_each_rows_own_label(unit: HiddenUnit) -> None:
    labels = torch.tensor([[0, 2], [1, 0]])
    first = Embedding().first(unit, PICTURES, labels)
    for image in range(2):
        for variant in range(2):
            alone = unit.forward_embedded(PICTURES[image : image + 1], labels[image : image + 1, variant : variant + 1])
            assert torch.allclose(first[2 * image + variant], alone[0], rtol=1e-5, atol=1e-6)
    # Rows of a later unit are images times variants already.
    hidden = torch.rand((4, 1, 3, 3), generator=seeded(1, "images"))
    later = Embedding().later(unit, hidden, labels)
    for row, label in enumerate([0, 2, 1, 0]):
        alone = unit.forward_embedded(hidden[row : row + 1], torch.tensor([[label]]))
        assert torch.allclose(later[row], alone[0], rtol=1e-5, atol=1e-6)
    one_row = Embedding().later(unit, hidden, torch.tensor([[1, 2]]))
    each = Embedding().later(unit, hidden, torch.tensor([[1, 2], [1, 2]]))
    assert torch.equal(one_row, each)


@pytest.mark.parametrize("unit", [_dense(), _convolutional()], ids=["dense", "convolution"])
def test_an_embeddings_neutral_label_is_one_row_an_image(unit: HiddenUnit) -> None:
    neutral = unit.forward_embedded(PICTURES, None)
    assert len(neutral) == 2
    assert torch.equal(Embedding().first(unit, PICTURES, None), neutral)
    assert torch.equal(Embedding().later(unit, PICTURES, None), neutral)


@pytest.mark.parametrize("labels", [torch.tensor([[0, 2], [1, 1]]), None])
def test_groups_show_a_unit_the_image_alone(labels: Tensor | None) -> None:
    unit = _dense()
    assert torch.equal(Groups(3).first(unit, PICTURES, labels), unit(PICTURES))
    assert torch.equal(Groups(3).later(unit, PICTURES, labels), unit(PICTURES))


@pytest.mark.parametrize("encoding", [Overlay(3, 5.0), Embedding()], ids=["overlay", "embedding"])
def test_rows_are_images_times_variants(encoding: LabelEncoding) -> None:
    """Two images under three labels; the mean squares of the rows, by hand."""
    dense = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    maps = torch.tensor([[[[1.0, 3.0]]]]).repeat(6, 1, 1, 1)
    labels = torch.tensor([[0, 1, 2]])
    assert encoding.goodness(mean_square, dense, labels).tolist() == [[0, 1, 4], [9, 16, 25]]
    assert encoding.goodness(mean_square, maps, labels).tolist() == [[5, 5, 5], [5, 5, 5]]


def test_a_groups_goodness_is_its_labels() -> None:
    """Groups of one, one and one, then of two, one and one; picked in the order of the labels asked for."""
    even, uneven = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([[1.0, 3, 0, 2], [0, 0, 1, 0]])
    groups, every, some = Groups(3), torch.tensor([[0, 1, 2]]), torch.tensor([[2, 0], [1, 1]])
    assert groups.goodness(mean_square, even, every).tolist() == [[1, 4, 9], [16, 25, 36]]
    assert groups.goodness(mean_square, uneven, every).tolist() == [[5, 0, 4], [0, 1, 0]]
    assert groups.goodness(mean_square, even, some).tolist() == [[9, 1], [25, 25]]
    assert groups.goodness(mean_square, uneven, some).tolist() == [[4, 5], [1, 1]]
