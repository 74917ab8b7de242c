"""The only place where a spec becomes objects."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor

from intff import negatives
from intff.errors import DeviceUnavailable
from intff.goodness import GOODNESS
from intff.labels import Overlay
from intff.layers import SCALES, dense
from intff.losses import LOSSES
from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.objectives import CrossEntropyObjective, LocalObjective, Objective
from intff.seeds import seeded
from intff.spec import BP, TrainSpec
from intff.units import HiddenUnit


def build_network(spec: TrainSpec) -> Network:
    """A network with its initial weights, on the CPU."""
    generator = seeded(spec.training.seed, "weights")
    classes = len(spec.dataset.labels)
    widths = [spec.architecture.input_size, *(width for unit in spec.architecture.units for width in unit)]
    layers = [dense(below, above, generator) for below, above in pairwise(widths)]
    algorithm = spec.algorithm
    if isinstance(algorithm, BP):
        return BackpropNetwork(layers, head=dense(widths[-1], classes, generator))
    scale = SCALES[algorithm.normalization]
    remaining = iter(layers)
    units = [HiddenUnit([next(remaining) for _ in unit], scale) for unit in spec.architecture.units]
    outputs = sum(unit[-1] for unit in spec.architecture.units)
    return GoodnessNetwork(
        units,
        overlay=Overlay(classes, algorithm.label_encoding.value),
        goodness=GOODNESS[algorithm.goodness],
        head=dense(outputs, classes, generator) if algorithm.classifier == "softmax" else None,
        scale=scale,
    )


def build_objective(spec: TrainSpec, network: Network) -> Objective:
    """What the trainer minimises for this network."""
    if isinstance(network, BackpropNetwork):
        return CrossEntropyObjective(network)
    assert not isinstance(spec.algorithm, BP)
    return LocalObjective(network, LOSSES[spec.algorithm.loss], spec.algorithm.theta)


def draw_negatives(spec: TrainSpec, labels: Tensor, generator: Generator) -> Tensor:
    """Negative labels for one epoch, [images, negatives]; none for backpropagation."""
    if isinstance(spec.algorithm, BP):
        return labels.new_empty((len(labels), 0))
    source = spec.algorithm.negatives
    if source.kind == "random_label":
        return negatives.random_labels(labels, source.count, generator)
    return negatives.wrong_labels(labels, source.count, len(spec.dataset.labels), generator)


def choose_device(name: str) -> torch.device:
    """The device that a spec's `training.device` means here.

    Raises:
        DeviceUnavailable: `cuda` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        msg = "training.device is cuda, but this process has no CUDA device; use auto or cpu"
        raise DeviceUnavailable(msg)
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
