"""Readable validation errors: the field, the rule and the value received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from intff.errors import SpecError, shown
from intff.spec.base import as_written
from intff.spec.train import TrainSpec

_MOST_PROBLEMS = 10
_LONGEST_NAME = 80  # characters of a field name; that of an unknown field may have any length
_WORDS = {
    "valid tuple": "list",
    "valid dictionary or object to extract fields from": "JSON object",
    "valid dictionary or instance of TrainSpec": "JSON object",
}
"""Pydantic's words for Python types, and what JSON calls them."""
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
    return Problem(".".join(path), _sentence(error, str(cause) if cause is not None else None))


def _sentence(error: ErrorDetails, cause: str | None) -> str:
    """What is wrong, in terms of the spec and not of the validator."""
    context = error.get("ctx", {})
    if error["type"] == "missing":
        return "this field is required"
    if error["type"] == "extra_forbidden":
        return f"there is no such field, got {shown(error['input'])}"
    if error["type"] == "union_tag_invalid":
        return f"there is no kind {shown(context['tag'])}; choose one of {context['expected_tags']}"
    message = cause or error["msg"]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return f"{message}, got {shown(error['input'])}"


def read_spec(data: TrainSpec | Mapping[str, Any]) -> TrainSpec:
    """Validate a spec given as plain data, or one that may be a changed copy of another.

    Raises:
        SpecError: the data are not a valid spec; `field` is the first invalid field, and the message lists the first
            few errors.
    """
    if isinstance(data, TrainSpec):
        data = as_written(data)
    try:
        return TrainSpec.model_validate(dict(data) if isinstance(data, Mapping) else data)
    except ValidationError as invalid:
        errors = invalid.errors()
        if any(hasattr(error["input"], "tolist") for error in errors):
            return read_spec(_plain(data))  # only then: looking through every list would take long
        found = [problem(error, data) for error in errors[:_MOST_PROBLEMS]]
        lines = [f"{entry.field or 'spec'}: {entry.message}" for entry in found]
        raise SpecError("\n".join(lines), field=found[0].field) from invalid


def _plain(value: Any) -> Any:  # noqa: ANN401 -- of any field
    """Convert NumPy numbers and arrays to Python's own, at any depth."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


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
