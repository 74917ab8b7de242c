"""Readable validation errors: the field, the rule and the value received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from intff.errors import SpecError, shown
from intff.spec.train import TrainSpec

_MOST_PROBLEMS = 10
_LONGEST_NAME = 80  # characters of a field name; that of an unknown field may have any length
_UNKNOWN = object()  # marks a path that is not in the given value


@dataclass(frozen=True)
class Problem:
    """One validation error: the dotted path of the field, and a message."""

    field: str
    message: str


def problem(error: ErrorDetails, given: object) -> Problem:
    """Convert one pydantic error to a field and a message.

    Args:
        error: one entry of `ValidationError.errors()`.
        given: the whole value that was validated; it distinguishes keys from union tags.
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
        SpecError: the data are not a valid spec; `field` is the first invalid field, and the message lists the first
            few errors.
    """
    try:
        return TrainSpec.model_validate(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as invalid:
        found = [problem(error, data) for error in invalid.errors()[:_MOST_PROBLEMS]]
        lines = [f"{entry.field or 'spec'}: {entry.message}" for entry in found]
        raise SpecError("\n".join(lines), field=found[0].field) from invalid


def _path(location: tuple[int | str, ...], given: object, *, is_missing: bool) -> list[str]:
    """The location without union tags."""
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
            continue  # a number, or a short form instead of an object: it has no fields
        path.append(str(step)[:_LONGEST_NAME])
        here = inside
    return path
