"""How large a run would be, told from its spec alone, and the refusal of one that is too large."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from intff.errors import SpecError
from intff.spec.algorithm import BP, FF, IntFF
from intff.spec.layers import Attention, Layer
from intff.spec.shapes import Shape, learned_by
from intff.spec.train import TrainSpec

_BYTES = 4  # float32
SCORED_AT_ONCE = 1000
"""Images that are scored at once, to measure accuracy; on a CPU their labels are tried in smaller pieces."""
_COPIES = 5  # weights, their gradients, Adam's two moments, and the weights as a CPU lays them out for scoring


@dataclass(frozen=True)
class Limits:
    """What one run may take; the defaults fit the smallest machine the project is meant for."""

    max_parameters: int = 50_000_000
    max_memory_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class Size:
    """What a run would take: parameters, and bytes at the peak of training."""

    parameters: int
    memory_bytes: int


def size_of(spec: TrainSpec) -> Size:
    """Estimate a run's size without allocating anything; the memory is rounded up, not exact."""
    classes = len(spec.dataset.labels)
    trained_on = spec.dataset.train_images + _pure_noise(spec)
    batch = min(spec.training.batch_size, trained_on)
    learned, activations = 0, spec.architecture.input_size
    before: Shape = spec.dataset.image_shape
    for layers, shapes in zip(spec.architecture.units, spec.architecture.shapes, strict=True):
        for layer, shape in zip(layers, shapes, strict=True):
            learned += learned_by(before, layer)
            activations += _kept(before, layer, shape)
            before = shape
    if isinstance(spec.algorithm, BP):
        learned += (prod(before) + 1) * classes
        rows = max(batch, SCORED_AT_ONCE)
    else:
        learned += _beside_the_units(spec, spec.algorithm)
        rows = _rows(spec.algorithm, batch, classes)
    # Each layer's output is kept before and after the activation, and has a gradient.
    activations *= 3 * rows
    # Bytes: the images as they came, once more with black margins where they are shifted, and negative images.
    images = 2 * trained_on * spec.architecture.input_size
    return Size(learned, _BYTES * (_COPIES * learned + activations + images))


def _pure_noise(spec: TrainSpec) -> int:
    """How many images corruption adds, at most: validation's are counted among the given ones."""
    return spec.noise.as_mixture().counts(spec.dataset.train_images).pure_noise


def _kept(before: Shape, layer: Layer, shape: Shape) -> int:
    """Numbers that a layer keeps for its gradient, for one image."""
    if isinstance(layer, Attention):
        positions = prod(before[1:])
        return 6 * prod(shape) + layer.heads * positions * positions
    return prod(shape)


def _beside_the_units(spec: TrainSpec, algorithm: IntFF | FF) -> int:
    """Parameters of the softmax layer and of the labels' embeddings."""
    classes = len(spec.dataset.labels)
    found = 0
    if algorithm.classifier == "softmax":
        found += (sum(spec.architecture.output_sizes) + 1) * classes
    if algorithm.label_encoding.kind == "embedding":
        found += classes * sum(shapes[0][0] for shapes in spec.architecture.shapes)
    return found


def _rows(algorithm: IntFF | FF, batch: int, classes: int) -> int:
    """How many rows pass through the units at once: of a training step, or to score every label."""
    if algorithm.label_encoding.kind == "groups":
        images = 1 if hasattr(algorithm.negatives, "count") else 2  # negative images pass beside the positive ones
        return max(batch * images, SCORED_AT_ONCE)
    return max(batch * (1 + getattr(algorithm.negatives, "count", 1)), SCORED_AT_ONCE * classes)


def require_within(spec: TrainSpec, limits: Limits) -> None:
    """Refuse a spec that is larger than allowed.

    Raises:
        SpecError: it has too many parameters, or would need too much memory.
    """
    size = size_of(spec)
    if size.parameters > limits.max_parameters:
        msg = f"the network would have {size.parameters:,} parameters; at most {limits.max_parameters:,} are allowed"
        raise SpecError(msg, field="architecture.units")
    if size.memory_bytes > limits.max_memory_bytes:
        remedy = "make the batch or the network smaller"
        if added := _pure_noise(spec):
            remedy += f", or the share of pure noise, which adds {added:,} images"
        msg = (
            f"training would need about {size.memory_bytes / 2**30:,.1f} GiB; at most "
            f"{limits.max_memory_bytes / 2**30:,.1f} GiB are allowed; {remedy}"
        )
        raise SpecError(msg, field="training.batch_size")
