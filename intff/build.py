"""Builds objects from a spec; nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from intff import negatives
from intff.batches import Shuffled
from intff.errors import DeviceUnavailable
from intff.goodness import GOODNESS
from intff.labels import Embedding, Groups, LabelEncoding, Overlay
from intff.layers import ACTIVATIONS, Attention, Convolution, Dense, Layer, MaxPool, linear
from intff.losses import LOSSES
from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.normalization import NORMALIZATIONS
from intff.objectives import CrossEntropyObjective, LocalObjective, Objective
from intff.schedule import SCHEDULES, Schedule, warmed_up
from intff.seeds import seeded
from intff.spec import BP, FF, IntFF, TrainSpec
from intff.spec import layers as spec_layers
from intff.spec.shapes import Shape, padding
from intff.units import HiddenUnit

_EMBEDDING_DEVIATION = 1.0  # as large as the pre-activations of a normalised input; smaller ones are long ignored


def build_network(spec: TrainSpec) -> Network:
    """Build a network with its initial weights on the CPU."""
    generator = seeded(spec.training.seed, "weights")
    classes = len(spec.dataset.labels)
    layers = _layers(spec, generator)
    algorithm = spec.algorithm
    if isinstance(algorithm, BP):
        outputs = spec.architecture.shapes[-1][-1]
        hidden = list(layers)  # drawn before the head, so that every algorithm starts with the same hidden layers
        head = linear(torch.Size(outputs).numel(), classes, generator)
        return BackpropNetwork(hidden, head, NORMALIZATIONS.get(algorithm.normalization))
    normalization = NORMALIZATIONS[algorithm.normalization]
    # A separate generator, so that every encoding starts with the same layers.
    vectors = seeded(spec.training.seed, "embeddings")
    units = []
    for unit, shapes in zip(spec.architecture.units, spec.architecture.shapes, strict=True):
        built = [next(layers) for _ in unit]
        embedding = None
        if algorithm.label_encoding.kind == "embedding":
            embedding = _EMBEDDING_DEVIATION * torch.randn((classes, shapes[0][0]), generator=vectors)
        units.append(HiddenUnit(built, normalization, embedding))
    given = algorithm.unit_weights
    return GoodnessNetwork(
        units,
        encoding=_encoding(algorithm, classes),
        goodness=GOODNESS[algorithm.goodness],
        classes=classes,
        head=linear(sum(spec.architecture.output_sizes), classes, generator)
        if algorithm.classifier == "softmax"
        else None,
        normalization=normalization,
        unit_weights=torch.ones(len(units)) if isinstance(given, str) else torch.tensor(given, dtype=torch.float32),
    )


def build_objective(spec: TrainSpec, network: Network) -> Objective:
    """Build the objective that training minimises."""
    if isinstance(network, BackpropNetwork):
        return CrossEntropyObjective(network)
    assert not isinstance(spec.algorithm, BP)
    source = spec.algorithm.negatives
    loss, theta = LOSSES[spec.algorithm.loss], spec.algorithm.theta
    if source.kind == "hard_label":
        return LocalObjective(network, loss, theta, "hard_labels", source.count)
    is_labels = source.kind in ("random_label", "wrong_label")
    return LocalObjective(network, loss, theta, "labels" if is_labels else "images")


def build_schedule(spec: TrainSpec) -> Schedule:
    """Build the learning rate schedule of a run."""
    return warmed_up(SCHEDULES[spec.training.schedule], spec.training.warmup)


def draw_negatives(  # noqa: PLR0911 -- one for each kind
    spec: TrainSpec, images: Tensor | Shuffled, labels: Tensor, generator: Generator
) -> Tensor:
    """Draw the source of one epoch's negatives; see `LocalObjective`.

    Args:
        spec: of the run.
        images: bytes, [images, channels, height, width], on the training device.
        labels: class numbers, [images], on the CPU.
        generator: draws everything.
    """
    if isinstance(spec.algorithm, BP):
        return labels.new_empty((len(labels), 0))
    classes = len(spec.dataset.labels)
    source = spec.algorithm.negatives
    match source.kind:
        case "random_label":
            return negatives.random_labels(labels, source.count, generator)
        case "wrong_label" if source.count == classes - 1:
            return negatives.all_wrong_labels(labels, classes)
        case "wrong_label":
            return negatives.wrong_labels(labels, source.count, classes, generator)
        case "hard_label":
            return negatives.gumbel_noise(len(labels), classes, generator)
        case "hybrid":
            return negatives.hybrids(images[:], generator)
        case "rotated":
            return negatives.rotated(images[:], generator)
        case "noisy_copy":
            return negatives.noisy_copies(images[:], source.sigma, generator)
        case "gaussian_noise":
            return negatives.gaussian_images(images[:], generator)


def choose_device(name: str) -> torch.device:
    """The device that `training.device` selects on this machine.

    Raises:
        DeviceUnavailable: `cuda` was requested but is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        msg = "training.device is cuda, but this process has no CUDA device; use auto or cpu"
        raise DeviceUnavailable(msg)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _layers(spec: TrainSpec, generator: Generator) -> Iterator[Layer]:
    """Build every layer from input to output, across all units."""
    before: Shape = spec.dataset.image_shape
    activation = ACTIVATIONS[spec.architecture.activation]
    for unit, shapes in zip(spec.architecture.units, spec.architecture.shapes, strict=True):
        for layer, shape in zip(unit, shapes, strict=True):
            match layer:
                case int():
                    yield Dense(torch.Size(before).numel(), layer, activation, generator)
                case spec_layers.Conv():
                    rows, columns = (padding(n, k, layer) for n, k in zip(before[1:], layer.kernel, strict=True))
                    zeros = (*rows, *columns)
                    yield Convolution(
                        inputs=before[0],
                        channels=layer.channels,
                        kernel=layer.kernel,
                        stride=layer.stride,
                        zeros=zeros,
                        batch_norm=layer.batch_norm,
                        activation=activation,
                        generator=generator,
                    )
                case spec_layers.MaxPool():
                    yield MaxPool(layer.size)
                case spec_layers.Attention():
                    channels, height, width = before
                    yield Attention((channels, height, width), layer.heads, generator)
            before = shape


def _encoding(algorithm: IntFF | FF, classes: int) -> LabelEncoding:
    match algorithm.label_encoding.kind:
        case "overlay":
            return Overlay(classes, algorithm.label_encoding.value)
        case "embedding":
            return Embedding()
        case "groups":
            return Groups(classes)
