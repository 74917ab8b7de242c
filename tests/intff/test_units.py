import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from intff.labels import Overlay
from intff.layers import ACTIVATIONS, Convolution, Dense, Layer, MaxPool
from intff.normalization import NORMALIZATIONS, normalized
from intff.seeds import seeded
from intff.units import HiddenUnit

CLASSES, PIXELS = 4, 11


def _unit(widths: list[int], normalization: str, seed: int, activation: str = "relu") -> HiddenUnit:
    """Random weights and, unlike at a run's start, random biases."""
    generator = seeded(seed, "test")
    layers = [
        Dense(below, above, ACTIVATIONS[activation], generator)
        for below, above in zip([PIXELS, *widths], widths, strict=False)
    ]
    for layer in layers:
        torch.nn.init.uniform_(layer.bias, -0.3, 0.3, generator=generator)
    return HiddenUnit(layers, NORMALIZATIONS[normalization])


def _convolution(inputs: int, channels: int, seed: int, *, batch_norm: bool) -> Convolution:
    generator = seeded(seed, "convolution")
    layer = Convolution(
        inputs=inputs,
        channels=channels,
        kernel=(2, 2),
        stride=1,
        zeros=(0, 1, 0, 1),
        batch_norm=batch_norm,
        activation=ACTIVATIONS["silu"],
        generator=generator,
    )
    torch.nn.init.uniform_(layer.bias, -0.3, 0.3, generator=generator)
    return layer


def _gradients(unit: HiddenUnit, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().mean(), list(unit.parameters())))


def test_a_unit_normalises_its_input_and_then_applies_its_layers_by_hand() -> None:
    """(3, 4) has the mean square 12.5; 7 / sqrt(12.5) + 0.5, and -3 / sqrt(12.5) + 0.5, which ReLU cuts."""
    generator = seeded(0, "test")
    relu = ACTIVATIONS["relu"]
    unit = HiddenUnit([Dense(2, 2, relu, generator), Dense(2, 1, relu, generator)], NORMALIZATIONS["rms"])
    with torch.no_grad():
        for weight, values in zip(
            unit.parameters(), ([[1.0, 1.0], [-1.0, 0.0]], [0.5, 0.5], [[2.0, 100.0]], [-1.0]), strict=True
        ):
            weight.copy_(torch.tensor(values))
    root = 12.5**0.5
    assert unit(torch.tensor([[3.0, 4.0]])).tolist() == [pytest.approx([2 * (7 / root + 0.5) - 1], rel=1e-5)]


@given(st.floats(0.01, 100), st.sampled_from(["l2", "rms", "layer"]))
def test_the_brightness_of_an_input_hardly_matters(factor: float, normalization: str) -> None:
    unit = _unit([5, 3], normalization, seed=1)
    inputs = torch.rand((4, PIXELS), generator=seeded(0, "test")) + 0.5
    # Below one hundredth of a deviation what is added to it begins to count.
    tolerance = 0.03 if normalization == "layer" else 1e-2
    assert torch.allclose(unit(inputs * factor), unit(inputs), rtol=tolerance, atol=tolerance)


@given(st.floats(-100, 100))
def test_layer_normalisation_takes_an_inputs_mean_away(more: float) -> None:
    unit = _unit([5, 3], "layer", seed=1).double()
    inputs = torch.rand((4, PIXELS), generator=seeded(0, "test")).double()
    assert torch.allclose(unit(inputs + more), unit(inputs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    value=st.sampled_from([0.1, 1.0, 5.0, 1000.0]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    black=st.booleans(),
    activation=st.sampled_from(["relu", "silu"]),
    seed=st.integers(0, 10**6),
)
def test_sharing_the_images_part_changes_nothing_but_rounding(
    *,
    normalization: str,
    dtype: torch.dtype,
    widths: list[int],
    value: float,
    shape: tuple[int, int],
    black: bool,
    activation: str,
    seed: int,
) -> None:
    """Against the overlay written into the images, plainly: activations and gradients."""
    unit, overlay = _unit(widths, normalization, seed, activation).to(dtype), Overlay(CLASSES, value)
    generator = seeded(seed, "images")
    images = torch.rand((shape[0], PIXELS), generator=generator).to(dtype) * (0 if black else 1)
    labels = torch.randint(CLASSES, shape, generator=generator)
    plain = unit(overlay.apply(images, labels))
    shared = unit.forward_overlaid(unit.overlaid(overlay.rest(images), overlay.pixels(labels).to(dtype)))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert shared.shape == (shape[0] * shape[1], widths[-1])
    assert torch.allclose(shared, plain, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(_gradients(unit, shared), _gradients(unit, plain), strict=True):
        # A gradient is a sum over all samples, so its rounding goes with the largest of them.
        assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@given(st.sampled_from([0.1, 5.0, 1000.0]), st.integers(0, 10**6))
def test_so_it_is_for_the_neutral_label(normalization: str, value: float, seed: int) -> None:
    unit, overlay = _unit([6, 3], normalization, seed).double(), Overlay(CLASSES, value)
    images = torch.rand((3, PIXELS), generator=seeded(seed, "images")).double()
    neutral = overlay.pixels(None).double()
    plain = images.clone()
    plain[:, :CLASSES] = neutral[0, 0]
    assert plain[0, 0].item() == pytest.approx(value / 4, rel=1e-6)
    shared = unit.forward_overlaid(unit.overlaid(overlay.rest(images), neutral))
    assert torch.allclose(shared, unit(plain), rtol=1e-11, atol=1e-11)
    for ours, theirs in zip(_gradients(unit, shared), _gradients(unit, unit(plain)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_one_row_of_pixels_serves_every_image() -> None:
    unit, overlay = _unit([6], "rms", seed=3), Overlay(CLASSES, 5.0)
    rest = overlay.rest(torch.rand((5, PIXELS), generator=seeded(0, "images")))
    labels = torch.arange(CLASSES)
    once = unit.forward_overlaid(unit.overlaid(rest, overlay.pixels(labels).unsqueeze(0)))
    each = unit.forward_overlaid(unit.overlaid(rest, overlay.pixels(labels.repeat(5, 1))))
    assert torch.allclose(once, each, rtol=1e-6, atol=1e-6)


def test_a_labels_vector_is_added_before_the_activation_by_hand() -> None:
    """(1, 7) becomes (-1, 1): 2 + label 0's 0.5, + label 1's -3, which ReLU cuts, + their mean -1.25."""
    unit = HiddenUnit(
        [Dense(2, 1, ACTIVATIONS["relu"], seeded(0, "test"))], NORMALIZATIONS["layer"], torch.tensor([[0.5], [-3.0]])
    )
    with torch.no_grad():
        unit.get_parameter("layers.0.weight").copy_(torch.tensor([[-1.0, 1.0]]))
    image = torch.tensor([[1.0, 7.0]])
    assert unit.forward_embedded(image, torch.tensor([[0, 1]])).tolist() == [pytest.approx([2.5]), [0.0]]
    assert unit.forward_embedded(image, None).tolist() == [pytest.approx([0.75])]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", ["dense", "convolution", "batch_norm"])
@given(images=st.integers(2, 4), variants=st.integers(1, 4), one_row=st.booleans(), seed=st.integers(0, 10**6))
def test_sharing_the_part_without_labels_changes_nothing_but_rounding(
    *, normalization: str, kind: str, images: int, variants: int, one_row: bool, seed: int
) -> None:
    """Against one whole computation for each image and label: activations and gradients."""
    generator = seeded(seed, "inputs")
    layers: list[Layer]
    if kind == "dense":
        layers = [
            Dense(12, 5, ACTIVATIONS["silu"], generator),
            Dense(5, 3, ACTIVATIONS["silu"], generator),
        ]
    else:
        batch_norm = kind == "batch_norm"
        layers = [_convolution(2, 5, seed, batch_norm=batch_norm), MaxPool(2)]
        layers.append(_convolution(5, 3, seed, batch_norm=batch_norm))
    unit = HiddenUnit(layers, NORMALIZATIONS[normalization], torch.randn((CLASSES, 5), generator=generator)).double()
    inputs = torch.rand((images, 2, 2, 3), generator=generator).double()
    labels = torch.randint(CLASSES, (1 if one_row else images, variants), generator=generator)
    shared = unit.forward_embedded(inputs, labels)
    assert unit.embedding is not None
    each = normalized(inputs, NORMALIZATIONS[normalization]).repeat_interleave(variants, dim=0)
    vectors = unit.embedding[labels.expand(images, -1).flatten()]
    first = layers[0]
    assert isinstance(first, Dense | Convolution)
    plain = silu(first.before(each) + vectors.view(*vectors.shape, *((1, 1) if kind != "dense" else ())))
    for layer in layers[1:]:
        plain = layer(plain)
    assert shared.shape == plain.shape
    assert torch.allclose(shared, plain, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(_gradients(unit, shared), _gradients(unit, plain), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9)


def test_the_neutral_label_is_the_mean_of_all_vectors() -> None:
    unit = _unit([6, 3], "rms", seed=2)
    unit.embedding = torch.nn.Parameter(torch.randn((CLASSES, 6), generator=seeded(0, "vectors")))
    inputs = torch.rand((3, PIXELS), generator=seeded(0, "inputs"))
    neutral = unit.forward_embedded(inputs, None)
    with torch.no_grad():
        unit.embedding.copy_(unit.embedding.mean(dim=0).expand(CLASSES, -1))
    assert torch.allclose(neutral, unit.forward_embedded(inputs, torch.tensor([[2]])), rtol=1e-6, atol=1e-6)


def test_train_and_eval_keep_their_meaning() -> None:
    unit = _unit([3], "l2", seed=0)
    assert unit.train() is unit
    assert unit.eval().training is False
