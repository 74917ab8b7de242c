"""Validation errors as people read them: a field, what arrived, and what would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from intff.errors import SpecError, shown
from intff.spec.train import TrainSpec

_MOST_PROBLEMS = 10
_LONGEST_NAME = 80  # of a field; an unknown one may have any
_UNKNOWN = object()  # stands for what the given value does not hold


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the dotted path of the field, and a sentence."""

    field: str
    message: str


def problem(error: ErrorDetails, given: object) -> Problem:
    """Turn one pydantic error into a field and a sentence.

    Args:
        error: one entry of `ValidationError.errors()`.
        given: the whole value that was validated; it tells keys from the tags of unions.
    """
    path = _path(error["loc"], given, is_missing=error["type"] == "missing")
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, SpecError):
        return Problem(".".join([*path, *filter(None, [cause.field])]), str(cause))
    message = str(cause) if cause is not None else error["msg"]
    if error["type"] != "missing":
        message = f"{message}, got {shown(error['input'])}"
    return Problem(".".join(path), message)


def read_spec(data: Mapping[str, Any]) -> TrainSpec:
    """Validate a spec given as plain data.

    Raises:
        SpecError: naming the first field at fault, with the first few problems in its message.
    """
    try:
        return TrainSpec.model_validate(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as invalid:
        found = [problem(error, data) for error in invalid.errors()[:_MOST_PROBLEMS]]
        lines = [f"{entry.field or 'spec'}: {entry.message}" for entry in found]
        raise SpecError("\n".join(lines), field=found[0].field) from invalid


def _path(location: tuple[int | str, ...], given: object, *, is_missing: bool) -> list[str]:
    """The location without the tags that unions put into it."""
    path: list[str] = []
    here = given
    for position, step in enumerate(location):
        last = position == len(location) - 1
        inside: Any = _UNKNOWN
        if isinstance(here, Mapping):
            is_key = step in here or (last and is_missing)
            if not is_key and step == here.get("kind", None if last else step):
                continue
            inside = here.get(step, _UNKNOWN)
        elif isinstance(here, list | tuple):
            if not isinstance(step, int):
                continue
            inside = here[step] if step < len(here) else _UNKNOWN
        elif here is not _UNKNOWN:
            continue  # a number, or a short form where a part would stand: there is nothing inside to point at
        path.append(str(step)[:_LONGEST_NAME])
        here = inside
    return path
