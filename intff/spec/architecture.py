"""The network: hidden units of dense, convolutional, pooling and attention layers."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from intff.spec.base import SpecPart, named
from intff.spec.layers import Layer, Width
from intff.spec.shapes import Shape, unit_shapes


def _filled(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        msg = "at least one is needed"
        raise ValueError(msg)
    return items


# Pydantic's min_length counts only valid items and would call a list with one invalid item empty.
_Filled = AfterValidator(_filled)
_AT_LEAST_ONE: dict[str, Any] = {"minItems": 1}

_DEFAULT_UNITS = ((200, 200, 200), (50, 50))  # the paper's larger network (Table 1)

Unit = Annotated[tuple[Layer, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]


class Layers(SpecPart):
    """A sequence of hidden units, each a list of layers, from input to output."""

    kind: Literal["layers"] = "layers"
    input_shape: (
        Annotated[tuple[Width, ...], Field(max_length=3, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]
        | None
    ) = None
    """Channels, height and width of one image; null means those of the data set."""
    units: Annotated[
        tuple[Unit, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled
    ] = _DEFAULT_UNITS
    """The layers of each hidden unit, where a number is a dense layer with that many neurons; or a string in the
    paper's notation, such as `784,(200,200,200),(50,50)`."""
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh"] = "silu"
    """Applied after every dense and convolutional layer; the paper uses relu."""

    @property
    def input_size(self) -> int:
        """Pixels of one image."""
        return prod(self.input_shape or ())

    @property
    def shapes(self) -> list[list[Shape]]:
        """The output shape of each layer, grouped by unit; `input_shape` must be set."""
        assert self.input_shape is not None
        return unit_shapes(self.input_shape, self.units)

    @property
    def output_sizes(self) -> list[int]:
        """Number of neurons of each unit's output, or of channels if the output is a feature map."""
        return [shapes[-1][0] for shapes in self.shapes]


Architecture = Annotated[Layers, named("layers", str | Layers)]
