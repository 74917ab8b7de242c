import torch

from intff.labels import Overlay

IMAGES = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]])


def test_blanking_zeroes_the_first_pixels_and_leaves_the_rest() -> None:
    blank = Overlay(classes=3, value=5.0).blank(IMAGES)
    assert torch.equal(blank, torch.tensor([[0, 0, 0, 0.4, 0.5], [0, 0, 0, 0.9, 1.0]]))
    assert IMAGES[0, 0] == torch.tensor(0.1)


def test_the_labels_pixel_holds_the_value() -> None:
    pixels = Overlay(classes=3, value=5.0).pixels(torch.tensor([[2, 0]]))
    assert pixels.tolist() == [[[0, 0, 5], [5, 0, 0]]]
    assert pixels.dtype == torch.float32


def test_every_variant_of_an_image_carries_its_own_label() -> None:
    overlay = Overlay(classes=2, value=4.0)
    overlaid = overlay.apply(overlay.blank(torch.tensor([[9.0, 9.0, 0.5]])), torch.tensor([[1, 0]]))
    assert overlaid.tolist() == [[[0, 4, 0.5], [4, 0, 0.5]]]


def test_the_neutral_label_shares_the_value_among_all_classes() -> None:
    assert Overlay(classes=4, value=6.0).neutral().tolist() == [1.5, 1.5, 1.5, 1.5]
