"""Estimates the size of a run from its spec alone, and rejects a run that is too large."""

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
"""Images scored at once on a GPU, which the memory estimate assumes; on a CPU, fewer rows are computed at once."""
BYTES_PER_PARAMETER = 5 * _BYTES
"""For the weights, their gradients, Adam's two moments, and the copy of the weights that a CPU scores with."""


@dataclass(frozen=True)
class Limits:
    """Upper limits of one run; the defaults suit the smallest machine that the project supports."""

    max_parameters: int = 50_000_000
    max_memory_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class Size:
    """Estimated size of a run: its parameters, and its peak memory in training in bytes."""

    parameters: int
    memory_bytes: int


def size_of(spec: TrainSpec) -> Size:
    """Estimate a run's size without allocating anything; the memory is an upper estimate."""
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
    # For each layer: pre-activations, activations and a gradient.
    activations *= 3 * rows
    # The images as loaded and again with the margins for shifts, together with negative images.
    images = 2 * trained_on * spec.architecture.input_size
    return Size(learned, BYTES_PER_PARAMETER * learned + _BYTES * (activations + images))


def _pure_noise(spec: TrainSpec) -> int:
    """An upper bound on the images added as pure noise: the validation images are counted as well."""
    return spec.noise.as_mixture().counts(spec.dataset.train_images).pure_noise


def _kept(before: Shape, layer: Layer, shape: Shape) -> int:
    """Values that a layer stores for the backward pass, for one image."""
    if isinstance(layer, Attention):
        positions = prod(before[1:])
        return 6 * prod(shape) + layer.heads * positions * positions
    return prod(shape)


def _beside_the_units(spec: TrainSpec, algorithm: IntFF | FF) -> int:
    """Parameters of the softmax layer and of the label embeddings."""
    classes = len(spec.dataset.labels)
    found = 0
    if algorithm.classifier == "softmax":
        found += (sum(spec.architecture.output_sizes) + 1) * classes
    if algorithm.label_encoding.kind == "embedding":
        found += classes * sum(shapes[0][0] for shapes in spec.architecture.shapes)
    return found


def _rows(algorithm: IntFF | FF, batch: int, classes: int) -> int:
    """Rows that pass through the units at once, in a training step or when scoring every label."""
    if algorithm.label_encoding.kind == "groups":
        images = 1 if hasattr(algorithm.negatives, "count") else 2  # with negative images, the batch doubles
        return max(batch * images, SCORED_AT_ONCE)
    return max(batch * (1 + getattr(algorithm.negatives, "count", 1)), SCORED_AT_ONCE * classes)


def require_within(spec: TrainSpec, limits: Limits) -> None:
    """Reject a spec whose run is larger than allowed.

    Raises:
        SpecError: the run has too many parameters or would need too much memory.
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
