"""Parsing and writing the paper's architecture notation, such as `784,(200,200,200),(50,50)`.

Parentheses group the layers of one hidden unit; a layer outside parentheses is a unit of its own.
The whole string may be enclosed in parentheses, as in the paper. A layer is a number of neurons, or one of

    32C3  32C(5,3)  32C4/4  32C3v    convolution: channels, kernel, stride; v means no padding
    32C3p                            convolution without batch normalisation
    P2                               2x2 max pooling; outside parentheses, it belongs to the previous unit
    A4                               self-attention with 4 heads
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from intff.errors import NotationError

Layer = int | dict[str, Any]
"""As in a spec: a number of neurons, or an object with a `kind`."""

_EXAMPLE = "784,(200,200,200),(50,50)"
_LONGEST = 2000
_NUMBER = r"[0-9]{1,12}"
_KERNEL = rf"{_NUMBER}|\({_NUMBER},{_NUMBER}\)"
_LAYER = rf"(?:{_NUMBER}(?:C(?:{_KERNEL})(?:/{_NUMBER})?v?p?)?|[PA]{_NUMBER})"
_BLANKS = re.compile(r"\s*([(),])\s*")  # spaces between digits stay, or 100 50 would be read as 10050
_GROUP = re.compile(rf"(?P<bare>{_LAYER})|\((?P<unit>{_LAYER}(?:,{_LAYER})*)\)")
_PART = re.compile(
    rf"(?P<width>{_NUMBER})(?:C(?P<kernel>{_KERNEL})(?:/(?P<stride>{_NUMBER}))?(?P<valid>v)?(?P<plain>p)?)?"
    rf"|P(?P<pool>{_NUMBER})|A(?P<heads>{_NUMBER})"
)


@dataclass(frozen=True)
class Notation:
    """A parsed architecture: input size, layers per hidden unit, and whether the last layer was outside parentheses."""

    input_size: int
    units: tuple[tuple[Layer, ...], ...]
    last_is_bare: bool


def parse(text: str) -> Notation:
    """Parse the paper's notation.

    Args:
        text: for example `784,(100,50),(30,10)` or `(784,32C(3,3),P2,64C(3,3),128,10)`.

    Raises:
        NotationError: the text does not follow the notation.
    """
    if len(text) > _LONGEST:
        msg = f"an architecture is at most {_LONGEST} characters long, got {len(text)}"
        raise NotationError(msg)
    compact = _without_outer_parentheses(_BLANKS.sub(r"\1", text.strip()))
    groups: list[re.Match[str]] = []
    position = 0
    while True:
        match = _GROUP.match(compact, position)
        if match is None:
            rest = compact[position : position + 20] or "the end"
            msg = (
                f"expected a width such as 200 or a hidden unit such as (50,50) at {rest!r} in {text!r}; "
                f"an architecture looks like {_EXAMPLE} or 784,(32C3,P2),(64C3,P2)"
            )
            raise NotationError(msg)
        groups.append(match)
        position = match.end()
        if position == len(compact):
            break
        if compact[position] != ",":
            msg = f"expected a comma at {compact[position : position + 20]!r} in {text!r}; as in {_EXAMPLE}"
            raise NotationError(msg)
        position += 1
    first = groups[0]["bare"] or ""
    if not first.isdigit() or len(groups) == 1:
        msg = f"an architecture is the input size and then at least one hidden unit, as in {_EXAMPLE}; got {text!r}"
        raise NotationError(msg)
    units: list[tuple[Layer, ...]] = []
    for group in groups[1:]:
        layers = tuple(_layer(part) for part in _PART.finditer(group["bare"] or group["unit"]))
        if group["bare"] and group["bare"].startswith("P") and units:
            units[-1] += layers  # pooling has no parameters, so it cannot be a unit
        else:
            units.append(layers)
    return Notation(int(first), tuple(units), last_is_bare=groups[-1]["bare"] is not None)


def parse_layer(text: str) -> Layer:
    """Parse one layer, such as `200`, `32C3` or `P2`.

    Raises:
        NotationError: the text is not a layer.
    """
    match = _PART.fullmatch(_BLANKS.sub(r"\1", text.strip()[:_LONGEST]))
    if match is None:
        msg = "a layer looks like 200, 32C3, 32C(5,3)/2, P2 or A4"
        raise NotationError(msg)
    return _layer(match)


def write(input_size: int, units: Sequence[Sequence[Layer]]) -> str:
    """The notation of a network with every unit in parentheses: `784,(200,200,200),(50,50)`."""
    return ",".join([str(input_size), *(f"({','.join(map(_written, unit))})" for unit in units)])


def _layer(match: re.Match[str]) -> Layer:
    if match["pool"]:
        return {"kind": "max_pool", "size": int(match["pool"])}
    if match["heads"]:
        return {"kind": "attention", "heads": int(match["heads"])}
    if not match["kernel"]:
        return int(match["width"])
    rows, *columns = (int(side) for side in match["kernel"].strip("()").split(","))
    return {
        "kind": "conv",
        "channels": int(match["width"]),
        "kernel": [rows, *(columns or [rows])],
        "stride": int(match["stride"] or 1),
        "padding": "valid" if match["valid"] else "same",
        "batch_norm": not match["plain"],
    }


def _written(layer: Layer) -> str:
    if isinstance(layer, int):
        return str(layer)
    if layer["kind"] == "max_pool":
        return f"P{layer['size']}"
    if layer["kind"] == "attention":
        return f"A{layer['heads']}"
    rows, columns = layer["kernel"]
    kernel = str(rows) if rows == columns else f"({rows},{columns})"
    stride = f"/{layer['stride']}" if layer["stride"] != 1 else ""
    valid, plain = "v" if layer["padding"] == "valid" else "", "" if layer["batch_norm"] else "p"
    return f"{layer['channels']}C{kernel}{stride}{valid}{plain}"


def _without_outer_parentheses(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for index, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and index < len(text) - 1:
            return text  # the first parenthesis closes before the end: it is a unit, not the outer pair
    return text[1:-1]
