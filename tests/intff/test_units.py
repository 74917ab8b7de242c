import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from intff.labels import Overlay
from intff.layers import SCALES, dense
from intff.seeds import seeded
from intff.units import HiddenUnit

CLASSES, PIXELS = 4, 11


def _unit(widths: list[int], scale: str, seed: int) -> HiddenUnit:
    """Random weights and, unlike at a run's start, random biases."""
    generator = seeded(seed, "test")
    layers = [dense(below, above, generator) for below, above in zip([PIXELS, *widths], widths, strict=False)]
    for layer in layers:
        torch.nn.init.uniform_(layer.bias, -0.3, 0.3, generator=generator)
    return HiddenUnit(layers, SCALES[scale])


def _gradients(unit: HiddenUnit, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().mean(), list(unit.parameters())))


def test_a_unit_normalises_its_input_and_then_applies_its_layers_by_hand() -> None:
    """(3, 4) has the mean square 12.5; 12.5 / 2 * 2 + bias; ReLU cuts what is negative."""
    unit = HiddenUnit([torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)], SCALES["rms"])
    with torch.no_grad():
        for weight, values in zip(
            unit.parameters(), ([[1.0, 1.0], [-1.0, 0.0]], [0.5, 0.5], [[2.0, 100.0]], [-1.0]), strict=True
        ):
            weight.copy_(torch.tensor(values))
    root = 12.5**0.5
    assert unit(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([2 * (7 / root + 0.5) - 1], rel=1e-5)


@given(st.floats(0.01, 100), st.sampled_from(["l2", "rms"]))
def test_the_brightness_of_an_input_hardly_matters(factor: float, scale: str) -> None:
    unit = _unit([5, 3], scale, seed=1)
    inputs = torch.rand((4, PIXELS), generator=seeded(0, "test")) + 0.5
    assert torch.allclose(unit(inputs * factor), unit(inputs), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", SCALES)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    value=st.sampled_from([0.1, 1.0, 5.0, 1000.0]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    black=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_sharing_the_images_part_changes_nothing_but_rounding(
    *, scale: str, dtype: torch.dtype, widths: list[int], value: float, shape: tuple[int, int], black: bool, seed: int
) -> None:
    """Against the overlay written into the images, plainly: activations and gradients."""
    unit, overlay = _unit(widths, scale, seed).to(dtype), Overlay(CLASSES, value)
    generator = seeded(seed, "images")
    images = torch.rand((shape[0], PIXELS), generator=generator).to(dtype) * (0 if black else 1)
    labels = torch.randint(CLASSES, shape, generator=generator)
    blank = overlay.blank(images)
    plain = unit(overlay.apply(blank, labels))
    shared = unit.forward_overlaid(blank, overlay.pixels(labels).to(dtype))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert shared.shape == (*shape, widths[-1])
    assert torch.allclose(shared, plain, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(_gradients(unit, shared), _gradients(unit, plain), strict=True):
        # A gradient is a sum over all samples, so its rounding goes with the largest of them.
        assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("scale", SCALES)
@given(st.sampled_from([0.1, 5.0, 1000.0]), st.integers(0, 10**6))
def test_so_it_is_for_the_neutral_label(scale: str, value: float, seed: int) -> None:
    unit, overlay = _unit([6, 3], scale, seed).double(), Overlay(CLASSES, value)
    blank = overlay.blank(torch.rand((3, PIXELS), generator=seeded(seed, "images")).double())
    neutral = overlay.neutral().double()
    plain = blank.clone()
    plain[:, :CLASSES] = neutral
    shared = unit.forward_overlaid(blank, neutral[None, None]).squeeze(1)
    assert torch.allclose(shared, unit(plain), rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(_gradients(unit, shared), _gradients(unit, unit(plain)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_one_row_of_pixels_serves_every_image() -> None:
    unit, overlay = _unit([6], "rms", seed=3), Overlay(CLASSES, 5.0)
    blank = overlay.blank(torch.rand((5, PIXELS), generator=seeded(0, "images")))
    labels = torch.arange(CLASSES)
    once = unit.forward_overlaid(blank, overlay.pixels(labels).unsqueeze(0))
    each = unit.forward_overlaid(blank, overlay.pixels(labels.repeat(5, 1)))
    assert torch.allclose(once, each, rtol=1e-6, atol=1e-6)


def test_train_and_eval_keep_their_meaning() -> None:
    unit = _unit([3], "l2", seed=0)
    assert unit.train() is unit
    assert unit.eval().training is False
