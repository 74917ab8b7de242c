"""The ONNX graph of a network, written node by node: a hundredth of a second where torch's exporter takes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.spec import BP, TrainSpec

OPSET = 20
_IR_VERSION = 10  # of the same time as the opset: older runtimes read it too


@dataclass
class _Graph:
    """Nodes and constants so far; each node is named by its one output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401 -- as ONNX has them
        """Add a node, and give its output's name."""
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Tensor | NDArray[np.int64] | float | Sequence[int]) -> str:
        """Add a constant once, and give its name."""
        if name not in self.constants:
            if isinstance(values, Tensor):
                array = values.detach().cpu().contiguous().numpy()
            else:
                array = np.asarray(values, np.float32 if isinstance(values, float) else np.int64)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def dense(self, hidden: str, layer: nn.Linear, name: str, output: str = "") -> str:
        """A fully connected layer, [rows, inputs] to [rows, outputs]."""
        weight, bias = self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)
        return self.add("Gemm", hidden, weight, bias, name=output, transB=1)

    def scale(self, sum_of_squares: str, size: int, normalization: str) -> str:
        """What `intff.layers` has under this name."""
        if normalization == "l2":
            norm = self.add("Sqrt", sum_of_squares)
            return self.add("Reciprocal", self.add("Add", norm, self.constant("l2_floor", 1e-4)))
        mean = self.add("Div", sum_of_squares, self.constant(f"size_{size}", float(size)))
        return self.add("Reciprocal", self.add("Sqrt", self.add("Add", mean, self.constant("rms_floor", 1e-6))))


def build_graph(spec: TrainSpec, network: Network) -> onnx.ModelProto:
    """The network from `images`, [batch, channels, height, width] of 0 to 1, to its named outputs."""
    graph = _Graph()
    flat = graph.add("Flatten", "images", axis=1)  # [batch, pixels]
    labels, units = len(spec.dataset.labels), len(spec.architecture.units)
    shapes: dict[str, list[int | str]] = {}
    if isinstance(network, BackpropNetwork):
        hidden = flat
        for number, layer in enumerate(network.layers):
            hidden = graph.add("Relu", graph.dense(hidden, layer, f"layers.{number}"))
        logits = graph.dense(hidden, network.head, "head")
    else:
        assert not isinstance(spec.algorithm, BP)
        scorer = _Scorer(graph, network, flat, spec)
        with torch.no_grad():
            _add_goodness(graph, scorer, spec.algorithm.theta, units, labels)
            logits = _logits(graph, scorer, network.head) if network.head is not None else ""
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
    """One pass through the units for images under several overlays; rows are images times variants."""

    def __init__(self, graph: _Graph, network: GoodnessNetwork, flat: str, spec: TrainSpec) -> None:
        assert not isinstance(spec.algorithm, BP)
        self._graph = graph
        self.network = network
        self._flat = flat
        self._normalization = spec.algorithm.normalization
        self.is_mean = spec.algorithm.goodness == "mean_square"

    def outputs(self, pixels: Tensor, kind: str) -> list[tuple[str, str, int]]:
        """For each unit its activations, [rows, neurons], their sum of squares, [rows, 1], and the neurons.

        Args:
            pixels: what each variant has in place of the label's pixels, [variants, classes].
            kind: of the overlays, for the constants' names.
        """
        found: list[tuple[str, str, int]] = []
        for number, unit in enumerate(self.network.units):
            hidden = self._first(pixels, kind) if number == 0 else self.normal(*found[-1])
            for position, layer in enumerate(unit.layers):
                if number or position:
                    hidden = self._graph.dense(hidden, layer, f"units.{number}.layers.{position}")
                    hidden = self._graph.add("Relu", hidden)
            squares = self._graph.add("ReduceSumSquare", hidden, self._graph.constant("last", [1]), keepdims=1)
            found.append((hidden, squares, unit.layers[-1].out_features))
        return found

    def normal(self, hidden: str, squares: str, neurons: int) -> str:
        """A unit's activations, normalised."""
        return self._graph.add("Mul", hidden, self._graph.scale(squares, neurons, self._normalization))

    def _first(self, pixels: Tensor, kind: str) -> str:
        """The first layer, [rows, neurons]: the image's part once, each overlay's part computed here and now."""
        graph, unit = self._graph, self.network.units[0]
        layer, classes = unit.layers[0], pixels.shape[-1]
        weight = layer.weight.detach().clone()  # [neurons, pixels]
        label_part = pixels.to(weight.device) @ weight[:, :classes].T  # [variants, neurons]
        weight[:, :classes] = 0  # the image's own pixels there do not count
        counted = torch.ones(weight.shape[1], 1)
        counted[:classes] = 0
        image_part = graph.add("Gemm", self._flat, graph.constant("units.0.layers.0.image", weight), transB=1)
        all_squares = graph.add("Mul", self._flat, self._flat)
        image_squares = graph.add("MatMul", all_squares, graph.constant("counted", counted))
        middle = graph.constant("middle", [1])
        squares = graph.add(
            "Add",
            graph.add("Unsqueeze", image_squares, middle),  # [batch, 1, 1]
            graph.constant(f"{kind}.squares", pixels.square().sum(dim=-1)[None, :, None]),
        )
        parts = graph.add(
            "Add",
            graph.add("Unsqueeze", image_part, middle),  # [batch, 1, neurons]
            graph.constant(f"{kind}.part", label_part[None]),
        )
        scaled = graph.add("Mul", parts, graph.scale(squares, weight.shape[1], self._normalization))
        hidden = graph.add("Relu", graph.add("Add", scaled, graph.constant("units.0.layers.0.bias", layer.bias)))
        return graph.add("Reshape", hidden, graph.constant(f"rows_of_{len(weight)}", [-1, len(weight)]))


def _add_goodness(graph: _Graph, scorer: _Scorer, theta: float, units: int, labels: int) -> None:
    overlay = scorer.network.overlay
    each = []
    for _, squares, neurons in scorer.outputs(overlay.value * torch.eye(overlay.classes), "labels"):
        size = graph.constant(f"size_{neurons}", float(neurons))
        each.append(graph.add("Div", squares, size) if scorer.is_mean else squares)
    rows = graph.add("Concat", *each, axis=1)  # [batch * labels, units]
    by_label = graph.add("Reshape", rows, graph.constant("by_label", [-1, labels, units]))
    by_unit = graph.add("Transpose", by_label, name="unit_goodness", perm=[0, 2, 1])
    goodness = graph.add("ReduceSum", by_unit, graph.constant("middle", [1]), name="goodness", keepdims=0)
    over = graph.add("Sub", goodness, graph.constant("theta", float(theta)))
    graph.add("Sigmoid", over, name="probability_positive")


def _logits(graph: _Graph, scorer: _Scorer, head: nn.Linear) -> str:
    outputs = scorer.outputs(scorer.network.overlay.neutral()[None], "neutral")
    normal = graph.add("Concat", *(scorer.normal(*each) for each in outputs), axis=1)
    return graph.dense(normal, head, "head")
