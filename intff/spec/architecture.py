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


# Pydantic's own least length would count the valid items, and call a list of one wrong item empty.
_Filled = AfterValidator(_filled)
_AT_LEAST_ONE: dict[str, Any] = {"minItems": 1}

_DEFAULT_UNITS = ((200, 200, 200), (50, 50))  # the paper's larger network (Table 1)

Unit = Annotated[tuple[Layer, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]


class Layers(SpecPart):
    """Hidden units from input to output, each a list of layers."""

    kind: Literal["layers"] = "layers"
    input_shape: (
        Annotated[tuple[Width, ...], Field(max_length=3, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]
        | None
    ) = None
    """Channels, height and width of one image; null takes the data set's."""
    units: Annotated[
        tuple[Unit, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled
    ] = _DEFAULT_UNITS
    """Each hidden unit's layers; a bare number is a dense layer of so many neurons. Or all of it in the paper's
    notation, as in `784,(200,200,200),(50,50)`."""
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh"] = "silu"
    """Applied after every dense and convolutional layer; the paper has relu."""

    @property
    def input_size(self) -> int:
        """Pixels of one image."""
        return prod(self.input_shape or ())

    @property
    def shapes(self) -> list[list[Shape]]:
        """The shape of each layer's output, unit by unit; needs `input_shape`."""
        assert self.input_shape is not None
        return unit_shapes(self.input_shape, self.units)

    @property
    def output_sizes(self) -> list[int]:
        """Neurons of each unit's output, or its channels where it has rows and columns."""
        return [shapes[-1][0] for shapes in self.shapes]


Architecture = Annotated[Layers, named("layers", str | Layers)]
