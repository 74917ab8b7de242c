"""Builds a network's ONNX graph node by node, in a hundredth of a second; torch's exporter takes a second."""

from __future__ import annotations

from dataclasses import replace

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from intff.graph_nodes import Graph, Rows
from intff.labels import Embedding, Groups, Overlay
from intff.layers import Dense
from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.spec import BP, TrainSpec
from intff.units import HiddenUnit

OPSET = 20
_IR_VERSION = 10  # as old as the opset, so that older runtimes can read it


def build_graph(spec: TrainSpec, network: Network) -> onnx.ModelProto:
    """Build the graph from `images`, [batch, channels, height, width], from 0 to 1, to the named outputs."""
    graph = Graph(spec.architecture.activation)
    images = Rows("images", spec.dataset.image_shape)
    labels, units = len(spec.dataset.labels), len(spec.architecture.units)
    shapes: dict[str, list[int | str]] = {}
    with torch.no_grad():
        if isinstance(network, BackpropNetwork):
            assert isinstance(spec.algorithm, BP)
            kind = spec.algorithm.normalization
            hidden = images if kind == "none" else graph.normalized(images, kind)
            for number, layer in enumerate(network.layers):
                hidden = graph.layer(hidden, layer, f"layers.{number}")
            logits = graph.dense(hidden, network.head, "head").name
        else:
            assert not isinstance(spec.algorithm, BP)
            scorer = _Scorer(graph, network, images, spec.algorithm.normalization)
            _add_goodness(graph, scorer, spec)
            logits = scorer.logits(network.head) if network.head is not None else ""
            shapes = {"goodness": [labels], "unit_goodness": [units, labels], "probability_positive": [labels]}
    if logits:
        graph.add("Softmax", logits, name="probabilities", axis=1)
        shapes["probabilities"] = [labels]
    image_shape: list[int | str] = ["batch", *spec.dataset.image_shape]
    made = helper.make_graph(
        graph.nodes,
        "intff",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, image_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in shapes.items()],
        list(graph.constants.values()),
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(made, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="intff")


class _Scorer:
    """Adds the units to a graph; depending on the label encoding, rows are images times labels, or just images."""

    def __init__(self, graph: Graph, network: GoodnessNetwork, images: Rows, normalization: str) -> None:
        self.graph = graph
        self.network = network
        self._images = images
        self._normalization = normalization

    def outputs(self, kind: str) -> list[Rows]:
        """Each unit's activations for every label, or for a neutral label.

        Args:
            kind: `labels` or `neutral`; also part of the names of constants.
        """
        found: list[Rows] = []
        for number, unit in enumerate(self.network.units):
            hidden = self._first(unit, kind) if number == 0 else self._later(found[-1], unit, number, kind)
            for position, layer in enumerate(unit.layers[1:], start=1):
                hidden = self.graph.layer(hidden, layer, f"units.{number}.layers.{position}")
            found.append(hidden)
        return found

    def logits(self, head: nn.Linear) -> str:
        """The softmax layer's logits, for a neutral label."""
        pooled = [self.graph.over_positions("ReduceMean", hidden) for hidden in self.outputs("neutral")]
        normal = [self.graph.normalized(hidden, self._normalization).name for hidden in pooled]
        together = Rows(self.graph.add("Concat", *normal, axis=1), (head.in_features,))
        return self.graph.dense(together, head, "head").name

    def _first(self, unit: HiddenUnit, kind: str) -> Rows:
        """The first unit's first layer."""
        graph, encoding, name = self.graph, self.network.encoding, "units.0.layers.0"
        if isinstance(encoding, Overlay):
            labels = torch.arange(encoding.classes)[None] if kind == "labels" else None
            pixels = encoding.pixels(labels)[0]  # [variants, classes]
            if isinstance(unit.layers[0], Dense):
                return self._overlaid(unit.layers[0], pixels, kind)
            overlaid = self._written_into_the_images(pixels, kind)
            return graph.layer(graph.normalized(overlaid, self._normalization), unit.layers[0], name)
        images = graph.normalized(self._images, self._normalization)
        if isinstance(encoding, Groups):
            return graph.layer(images, unit.layers[0], name)
        before = graph.before(images, unit.layers[0], name)
        vectors = self._vectors(unit, kind)
        each = graph.add("Unsqueeze", before.name, graph.constant("middle", [1]))  # [batch, 1, ...]
        shape = (1, len(vectors), vectors.shape[1], *(1 for _ in before.shape[1:]))
        added = graph.add("Add", each, graph.constant(f"{name}.{kind}", vectors.reshape(shape)))
        return graph.activated(graph.as_rows(added, before.shape))

    def _later(self, inputs: Rows, unit: HiddenUnit, number: int, kind: str) -> Rows:
        """A later unit's first layer."""
        graph, name = self.graph, f"units.{number}.layers.0"
        normal = graph.normalized(inputs, self._normalization)
        if not isinstance(self.network.encoding, Embedding):
            return graph.layer(normal, unit.layers[0], name)
        before = graph.before(normal, unit.layers[0], name)
        vectors = self._vectors(unit, kind)
        shape = (len(vectors), vectors.shape[1], *(1 for _ in before.shape[1:]))
        by_image = graph.constant(f"{name}.{kind}.by_image", [-1, len(vectors), *before.shape])
        added = graph.add(
            "Add",
            graph.add("Reshape", before.name, by_image),
            graph.constant(f"{name}.{kind}", vectors.reshape(shape)),
        )
        return graph.activated(graph.as_rows(added, before.shape))

    @staticmethod
    def _vectors(unit: HiddenUnit, kind: str) -> Tensor:
        assert unit.embedding is not None
        return unit.embedding if kind == "labels" else unit.embedding.mean(dim=0, keepdim=True)

    def _written_into_the_images(self, pixels: Tensor, kind: str) -> Rows:
        """Every image with every label overlay, [rows, channels, height, width]."""
        graph, size, classes = self.graph, self._images.size, pixels.shape[1]
        flat = graph.add("Reshape", self._images.name, graph.constant("flat_images", [-1, 1, size]))
        rest = torch.ones(size)
        rest[:classes] = 0
        blank = graph.add("Mul", flat, graph.constant("not_the_label", rest))  # [batch, 1, pixels]
        overlay = torch.zeros(1, len(pixels), size)
        overlay[0, :, :classes] = pixels
        added = graph.add("Add", blank, graph.constant(f"{kind}.overlay", overlay))
        return graph.as_rows(added, self._images.shape)

    def _overlaid(self, layer: Dense, pixels: Tensor, kind: str) -> Rows:
        """A dense first layer: the image part is computed once per image, the label parts are constants."""
        graph, classes = self.graph, pixels.shape[-1]
        weight = layer.weight.detach().cpu().clone()  # [neurons, pixels]
        neurons, size = weight.shape
        label_part = pixels @ weight[:, :classes].T  # [variants, neurons]
        column_sums = weight.sum(dim=1)
        weight[:, :classes] = 0  # the overlay replaces these pixels of the image
        counted = torch.ones(size, 1)
        counted[:classes] = 0
        flat = graph.flat(self._images).name
        image_part = graph.add("Gemm", flat, graph.constant("units.0.layers.0.image", weight), transB=1)
        middle = graph.constant("middle", [1])

        def summed(values: str, of_labels: Tensor, name: str) -> str:
            part = graph.add("MatMul", values, graph.constant("counted", counted))
            each = graph.add("Unsqueeze", part, middle)  # [batch, 1, 1]
            return graph.add("Add", each, graph.constant(f"{kind}.{name}", of_labels[None, :, None]))

        squares = summed(graph.add("Mul", flat, flat), pixels.square().sum(dim=-1), "squares")
        is_layer = self._normalization == "layer"
        total = summed(flat, pixels.sum(dim=-1), "total") if is_layer else ""
        mean, factor = graph.moments(total, squares, size, self._normalization)
        parts = graph.add(
            "Add",
            graph.add("Unsqueeze", image_part, middle),  # [batch, 1, neurons]
            graph.constant(f"{kind}.part", label_part[None]),
        )
        if mean:
            parts = graph.add("Sub", parts, graph.add("Mul", mean, graph.constant("column_sums", column_sums)))
        scaled = graph.add("Mul", parts, factor)
        before = graph.add("Add", scaled, graph.constant("units.0.layers.0.bias", layer.bias))
        return graph.activated(graph.as_rows(before, (neurons,)))


def _add_goodness(graph: Graph, scorer: _Scorer, spec: TrainSpec) -> None:
    assert not isinstance(spec.algorithm, BP)
    labels, units = len(spec.dataset.labels), len(spec.architecture.units)
    is_mean = spec.algorithm.goodness == "mean_square"
    each = []
    for hidden in scorer.outputs("labels"):
        if isinstance(scorer.network.encoding, Groups):
            channels, positions = hidden.shape[0], hidden.size // hidden.shape[0]
            squares = replace(hidden, name=graph.add("Mul", hidden.name, hidden.name))
            energy = graph.over_positions("ReduceSum", squares).name  # [rows, channels]
            members = _membership(channels, labels, positions if is_mean else 0)
            found = graph.add("MatMul", energy, graph.constant(f"groups_of_{channels}_{positions}", members))
        else:
            flat = graph.flat(hidden).name
            found = graph.add("ReduceSumSquare", flat, graph.constant("last", [1]), keepdims=1)  # [rows, 1]
            if is_mean:
                found = graph.add("Div", found, graph.constant(f"size_{hidden.size}", float(hidden.size)))
        each.append(graph.add("Reshape", found, graph.constant("by_label", [-1, 1, labels])))
    by_unit = graph.add("Concat", *each, name="unit_goodness", axis=1)  # [batch, units, labels]
    weights = scorer.network.unit_weights.reshape(1, units, 1)
    counted = by_unit
    if not bool((weights == 1).all()):
        counted = graph.add("Mul", by_unit, graph.constant("unit_weights", weights))
    goodness = graph.add("ReduceSum", counted, graph.constant("middle", [1]), name="goodness", keepdims=0)
    over = graph.add("Sub", goodness, graph.constant("theta", float(spec.algorithm.theta)))
    graph.add("Sigmoid", over, name="probability_positive")


def _membership(channels: int, groups: int, positions: int) -> Tensor:
    """Weight of each channel's sum of squares in each group's goodness, [channels, groups]; positions 0 means sums."""
    members = torch.zeros(channels, groups)
    for group, part in enumerate(torch.tensor_split(torch.arange(channels), groups)):
        members[part, group] = 1 / (len(part) * positions) if positions else 1
    return members
