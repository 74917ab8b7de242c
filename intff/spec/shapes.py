"""The output shape of each layer, computed from the spec alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from intff.errors import SpecError
from intff.spec.layers import Attention, Conv, Layer, MaxPool

Shape = tuple[int, ...]
"""[channels, rows, columns], or [neurons]."""

_MAP = 3


def unit_shapes(input_shape: Shape, units: Sequence[Sequence[Layer]]) -> list[list[Shape]]:
    """The output shape of each layer, grouped by unit.

    Raises:
        SpecError: a layer does not fit its input.
    """
    found: list[list[Shape]] = []
    shape = input_shape
    for number, unit in enumerate(units):
        found.append([])
        for position, layer in enumerate(unit):
            shape = layer_shape(shape, layer, field=f"architecture.units.{number}.{position}")
            found[-1].append(shape)
    return found


def layer_shape(shape: Shape, layer: Layer, field: str = "architecture.units") -> Shape:
    """The output shape of one layer.

    Args:
        shape: of the layer's input.
        layer: the layer.
        field: the layer's path in the spec, for errors.

    Raises:
        SpecError: the layer does not fit its input.
    """
    if isinstance(layer, int):
        return (layer,)
    if len(shape) != _MAP:
        msg = (
            f"a layer of kind {layer.kind} needs rows and columns, but its input is a vector of {prod(shape)} values; "
            "put it before the first dense layer"
        )
        raise SpecError(msg, field=field)
    channels, *image = shape
    if isinstance(layer, Conv):
        rows, columns = (_convolved(n, k, layer) for n, k in zip(image, layer.kernel, strict=True))
        if min(rows, columns) < 1:
            msg = f"a kernel of {list(layer.kernel)} does not fit into an image of {image} without padding"
            raise SpecError(msg, field=f"{field}.kernel")
        return (layer.channels, rows, columns)
    if isinstance(layer, MaxPool):
        if min(image) < layer.size:
            msg = f"a pooling size of {layer.size} does not fit into an image of {image}; lower it, or pool less often"
            raise SpecError(msg, field=f"{field}.size")
        return (channels, *(n // layer.size for n in image))
    if channels % layer.heads:
        msg = f"{channels} channels cannot be divided evenly among {layer.heads} heads"
        raise SpecError(msg, field=f"{field}.heads")
    return shape


def learned_by(shape: Shape, layer: Layer) -> int:
    """The number of parameters of a layer, given the shape of its input."""
    if isinstance(layer, int):
        return (prod(shape) + 1) * layer
    if isinstance(layer, Conv):
        return (shape[0] * prod(layer.kernel) + 1 + layer.batch_norm) * layer.channels
    if isinstance(layer, Attention):
        channels, *image = shape
        return (
            channels * prod(image) + (channels + 1) * 4 * channels
        )  # position embeddings; query, key, value and output
    return 0


def padding(size: int, kernel: int, layer: Conv) -> tuple[int, int]:
    """Zero padding before and after one dimension of a convolution's input; an odd zero is added after."""
    if layer.padding == "valid":
        return (0, 0)
    total = max((_convolved(size, kernel, layer) - 1) * layer.stride + kernel - size, 0)
    return (total // 2, total - total // 2)


def _convolved(size: int, kernel: int, layer: Conv) -> int:
    if layer.padding == "same":
        return -(-size // layer.stride)
    return (size - kernel) // layer.stride + 1
