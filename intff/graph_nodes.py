"""The building blocks of an ONNX graph: `intff.layers` and `intff.normalization` as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor, nn, ones

from intff import normalization as normal
from intff.layers import EPSILON, LEAK, Attention, Convolution, Dense, Layer, MaxPool

_MAP = 3


@dataclass(frozen=True)
class Rows:
    """A node's output, [rows, *shape]."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values in a row."""
        return prod(self.shape)


@dataclass
class Graph:
    """The nodes and constants of a graph under construction; each node is named after its single output."""

    activation: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:  # noqa: ANN401 -- as ONNX has them
        """Add a node, and return the name of its output."""
        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Tensor | NDArray[np.int64] | float | Sequence[int]) -> str:
        """Add a constant unless its name exists, and return the name."""
        if name not in self.constants:
            if isinstance(values, Tensor):
                array = values.detach().cpu().contiguous().numpy()
            else:
                array = np.asarray(values, np.float32 if isinstance(values, float) else np.int64)
            self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def as_rows(self, name: str, shape: tuple[int, ...]) -> Rows:
        """Reshape to [rows, *shape], merging all leading dimensions."""
        wanted = self.constant(f"rows_of_{'x'.join(map(str, shape))}", [-1, *shape])
        return Rows(self.add("Reshape", name, wanted), shape)

    def flat(self, hidden: Rows) -> Rows:
        """Flatten each row to one dimension."""
        if len(hidden.shape) == 1:
            return hidden
        return Rows(self.add("Flatten", hidden.name, axis=1), (hidden.size,))

    def layer(self, hidden: Rows, layer: Layer, name: str) -> Rows:
        """Apply any layer, including its activation."""
        if isinstance(layer, MaxPool):
            channels, *image = hidden.shape
            side = layer.size
            pooled = self.add("MaxPool", hidden.name, kernel_shape=[side, side], strides=[side, side])
            return Rows(pooled, (channels, *(n // side for n in image)))
        if isinstance(layer, Attention):
            return self._attention(hidden, layer, name)
        return self.activated(self.before(hidden, layer, name))

    def before(self, hidden: Rows, layer: Layer, name: str) -> Rows:
        """Apply a dense or convolutional layer without its activation."""
        if isinstance(layer, Dense):
            return self.dense(hidden, layer, name)
        assert isinstance(layer, Convolution)
        weight, bias = self._folded(layer, name)
        above, below, left, right = layer.zeros
        stride, kernel = layer.stride, layer.weight.shape[2:]
        made = self.add("Conv", hidden.name, weight, bias, strides=[stride, stride], pads=[above, left, below, right])
        rows = (hidden.shape[1] + above + below - kernel[0]) // stride + 1
        columns = (hidden.shape[2] + left + right - kernel[1]) // stride + 1
        return Rows(made, (layer.weight.shape[0], rows, columns))

    def _folded(self, layer: Convolution, name: str) -> tuple[str, str]:
        """A convolution's weight and bias with its batch normalisation folded into them."""
        weight, bias = layer.weight.detach(), layer.bias.detach()
        if layer.norm is not None:
            factor = layer.norm.gain.detach() / (layer.norm.variance + EPSILON).sqrt()  # [channels]
            weight, bias = weight * factor[:, None, None, None], bias - layer.norm.mean * factor
        return self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)

    def dense(self, hidden: Rows, layer: Dense | nn.Linear, name: str) -> Rows:
        """Apply a fully connected layer without its activation."""
        weight, bias = self.constant(f"{name}.weight", layer.weight), self.constant(f"{name}.bias", layer.bias)
        return Rows(self.add("Gemm", self.flat(hidden).name, weight, bias, transB=1), (layer.weight.shape[0],))

    def activated(self, before: Rows) -> Rows:
        """Apply the activation."""
        match self.activation:
            case "leaky_relu":
                name = self.add("LeakyRelu", before.name, alpha=LEAK)
            case "gelu":
                name = self.add("Gelu", before.name)
            case "silu":
                name = self.add("Mul", before.name, self.add("Sigmoid", before.name))
            case "tanh":
                name = self.add("Tanh", before.name)
            case _:
                name = self.add("Relu", before.name)
        return replace(before, name=name)

    def over_positions(self, operator: str, hidden: Rows) -> Rows:
        """Apply ReduceSum or ReduceMean over positions, to [rows, channels]; dense activations are unchanged."""
        if len(hidden.shape) != _MAP:
            return hidden
        axes = self.constant("rows_and_columns", [2, 3])
        return Rows(self.add(operator, hidden.name, axes, keepdims=0), hidden.shape[:1])

    def moments(self, total: str, squares: str, size: int, normalization: str) -> tuple[str, str]:
        """The value to subtract ("" for none) and the factor to multiply by; see `intff.normalization`."""
        if normalization == "l2":
            norm = self.add("Sqrt", squares)
            return "", self.add("Reciprocal", self.add("Add", norm, self.constant("l2_floor", 1e-4)))
        count = self.constant(f"size_{size}", float(size))
        power, mean = self.add("Div", squares, count), ""
        if normalization == "layer":
            mean = self.add("Div", total, count)
            power = self.add("Sub", power, self.add("Mul", mean, mean))
            power = self.add("Max", power, self.constant("zero", 0.0))
        return mean, self.add(
            "Reciprocal", self.add("Sqrt", self.add("Add", power, self.constant("floor", normal.EPSILON)))
        )

    def normalized(self, hidden: Rows, normalization: str) -> Rows:
        """Normalise each row over all its values."""
        flat = self.flat(hidden).name
        if normalization == "layer":
            centred = self._layer_norm(flat, hidden.size, normal.EPSILON)
            return self.as_rows(centred, hidden.shape) if len(hidden.shape) == _MAP else replace(hidden, name=centred)
        squares = self.add("ReduceSumSquare", flat, self.constant("last", [1]), keepdims=1)
        _, factor = self.moments("", squares, hidden.size, normalization)
        if len(hidden.shape) == _MAP:
            factor = self.add("Unsqueeze", factor, self.constant("rows_and_columns", [2, 3]))
        return replace(hidden, name=self.add("Mul", hidden.name, factor))

    def _layer_norm(self, values: str, size: int, floor: float) -> str:
        """Layer normalisation over the last dimension, without learned weights."""
        return self.add("LayerNormalization", values, self.constant(f"ones_{size}", ones(size)), axis=-1, epsilon=floor)

    def _attention(self, hidden: Rows, layer: Attention, name: str) -> Rows:
        channels, height, width = hidden.shape
        positions, each = height * width, channels // layer.heads

        def matrix(inputs: str, weight: Tensor, bias: Tensor, kind: str) -> str:
            product = self.add("MatMul", inputs, self.constant(f"{name}.{kind}_weight", weight.detach().T))
            return self.add("Add", product, self.constant(f"{name}.{kind}_bias", bias))

        by_channel = self.add(
            "Reshape", hidden.name, self.constant(f"flat_{channels}x{positions}", [-1, channels, positions])
        )
        by_position = self.add("Transpose", by_channel, perm=[0, 2, 1])  # [rows, positions, channels]
        tokens = self.add("Add", by_position, self.constant(f"{name}.position", layer.position))
        seen = self._layer_norm(tokens, channels, EPSILON)
        qkv = matrix(seen, layer.qkv_weight, layer.qkv_bias, "qkv")
        heads = self.constant(f"heads_{positions}x{layer.heads}x{each}", [-1, positions, layer.heads, each])
        parts = []
        for part in range(3):
            span = [self.constant(f"at_{edge * channels}", [edge * channels]) for edge in (part, part + 1)]
            sliced = self.add("Slice", qkv, *span, self.constant("last_of_three", [2]))
            parts.append(self.add("Reshape", sliced, heads))
        query, value = (self.add("Transpose", parts[n], perm=[0, 2, 1, 3]) for n in (0, 2))
        key = self.add("Transpose", parts[1], perm=[0, 2, 3, 1])
        scale = self.constant(f"scale_{each}", 1 / sqrt(each))
        shares = self.add("Softmax", self.add("Mul", self.add("MatMul", query, key), scale), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", shares, value), perm=[0, 2, 1, 3])
        together = self.add(
            "Reshape", mixed, self.constant(f"tokens_{positions}x{channels}", [-1, positions, channels])
        )
        summed = self.add("Add", tokens, matrix(together, layer.out_weight, layer.out_bias, "out"))
        back = self.add("Transpose", summed, perm=[0, 2, 1])
        return self.as_rows(back, (channels, height, width))
