"""The layers of a hidden unit: a number is a dense layer, the others are objects with a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from intff import notation
from intff.errors import NotationError
from intff.spec.base import SpecPart

Width = Annotated[int, Field(ge=1, le=10**9, strict=True)]
_Small = Annotated[int, Field(ge=1, le=64, strict=True)]


def _square(value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return (value, value) if is_number else value


Kernel = Annotated[
    tuple[_Small, _Small],
    Field(fail_fast=True),
    BeforeValidator(_square, json_schema_input_type=_Small | tuple[_Small, _Small]),
]


class Conv(SpecPart):
    """A 2D convolution, `32C3` in the architecture notation."""

    kind: Literal["conv"] = "conv"
    channels: Width
    """Number of output channels."""
    kernel: Kernel = (3, 3)
    """Rows and columns; a single number means a square kernel."""
    stride: _Small = 1
    padding: Literal["same", "valid"] = "same"
    """`same` pads with zeros, so that only the stride makes the output smaller; `valid` does not pad."""
    batch_norm: Annotated[bool, Field(strict=True)] = True
    """Normalise each channel over the batch before the activation. The paper's convolutions do not."""


class MaxPool(SpecPart):
    """Max pooling over squares, `P2`; a remainder at the border is dropped."""

    kind: Literal["max_pool"] = "max_pool"
    size: Annotated[int, Field(ge=2, le=64, strict=True)] = 2


class Attention(SpecPart):
    """Self-attention over the positions of a feature map with a residual connection, `A4`; it keeps the shape."""

    kind: Literal["attention"] = "attention"
    heads: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    """Number of heads; it must divide the number of channels."""


def _tag(value: object) -> str | None:
    if isinstance(value, dict):
        kind = value.get("kind")
        return kind if isinstance(kind, str) else None
    return getattr(value, "kind", "dense")


def _read_short_form(value: Any) -> Any:  # noqa: ANN401
    if not isinstance(value, str):
        return value
    if value in ("max_pool", "attention"):  # all of their fields have a default
        return {"kind": value}
    try:
        return notation.parse_layer(value)
    except NotationError as error:
        raise ValueError(str(error)) from error


_Layer = Annotated[
    Annotated[Width, Tag("dense")]
    | Annotated[Conv, Tag("conv")]
    | Annotated[MaxPool, Tag("max_pool")]
    | Annotated[Attention, Tag("attention")],
    Discriminator(
        _tag,
        custom_error_type="layer",
        custom_error_message=(
            "a layer is a number of neurons, an object whose kind is conv, max_pool or attention, or its notation"
        ),
    ),
]
Layer = Annotated[
    _Layer, BeforeValidator(_read_short_form, json_schema_input_type=str | Width | Conv | MaxPool | Attention)
]
