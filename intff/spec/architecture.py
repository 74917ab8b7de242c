"""The network: hidden units of dense layers."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from intff.spec.base import SpecPart, named

Width = Annotated[int, Field(ge=1, le=10**9, strict=True)]


def _filled(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        msg = "at least one is needed"
        raise ValueError(msg)
    return items


# Pydantic's own least length would count the valid items, and call a list of one wrong item empty.
_Filled = AfterValidator(_filled)
_AT_LEAST_ONE: dict[str, Any] = {"minItems": 1}

Unit = Annotated[tuple[Width, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]


class Layers(SpecPart):
    """Hidden units from input to output, each a list of layer widths."""

    kind: Literal["layers"] = "layers"
    input_shape: (
        Annotated[tuple[Width, ...], Field(max_length=3, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]
        | None
    ) = None
    """Channels, height and width of one image; null takes the data set's."""
    units: Annotated[tuple[Unit, ...], Field(max_length=64, fail_fast=True, json_schema_extra=_AT_LEAST_ONE), _Filled]
    """Widths of each hidden unit's layers, in neurons; a bare number here is a dense layer."""
    activation: Literal["relu"] = "relu"
    """Applied after every layer."""

    @property
    def input_size(self) -> int:
        """Pixels of one image."""
        return prod(self.input_shape or ())


Architecture = Annotated[Layers, named("layers", str | Layers)]
