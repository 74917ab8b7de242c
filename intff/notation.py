"""The paper's architecture notation, `784,(200,200,200),(50,50)`, read and written.

Parentheses group the layers of one hidden unit; a bare number is a unit of one layer.
The whole may stand in parentheses of its own, as the paper prints it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from intff.errors import NotationError

_EXAMPLE = "784,(200,200,200),(50,50)"
_LONGEST = 2000
_WIDTH = r"[0-9]{1,12}"
_BLANKS = re.compile(r"\s*([(),])\s*")  # those between two digits stay, or 100 50 would be read as 10050
_GROUP = re.compile(rf"(?P<bare>{_WIDTH})|\((?P<unit>{_WIDTH}(?:,{_WIDTH})*)\)")


@dataclass(frozen=True)
class Notation:
    """An architecture as written: input size, widths per hidden unit, and whether the last stood bare."""

    input_size: int
    units: tuple[tuple[int, ...], ...]
    last_is_bare: bool


def parse(text: str) -> Notation:
    """Read the paper's notation.

    Args:
        text: for example `784,(100,50),(30,10)` or `(784,(100,50),(30,10))`.

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
                f"an architecture looks like {_EXAMPLE}"
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
    if groups[0]["bare"] is None or len(groups) == 1:
        msg = f"an architecture is the input size and then at least one hidden unit, as in {_EXAMPLE}; got {text!r}"
        raise NotationError(msg)
    return Notation(
        input_size=int(groups[0]["bare"]),
        units=tuple(_widths(group) for group in groups[1:]),
        last_is_bare=groups[-1]["bare"] is not None,
    )


def write(input_size: int, units: Sequence[Sequence[int]]) -> str:
    """The notation of a network, every unit in parentheses: `784,(200,200,200),(50,50)`."""
    return ",".join([str(input_size), *(f"({','.join(map(str, unit))})" for unit in units)])


def _widths(group: re.Match[str]) -> tuple[int, ...]:
    return tuple(int(width) for width in (group["bare"] or group["unit"]).split(","))


def _without_outer_parentheses(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for index, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and index < len(text) - 1:
            return text  # the first parenthesis closes before the end: it is a unit, not the outer pair
    return text[1:-1]
