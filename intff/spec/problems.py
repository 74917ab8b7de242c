"""Validation errors as people read them: a field, what arrived, and what would do."""

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
_LONGEST_NAME = 80  # of a field; an unknown one may have any
_WORDS = {
    "valid tuple": "list",
    "valid dictionary or object to extract fields from": "JSON object",
    "valid dictionary or instance of TrainSpec": "JSON object",
}
"""Python's words, which a message of the validator may have, and JSON's."""
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
    return Problem(".".join(path), _sentence(error, str(cause) if cause is not None else None))


def _sentence(error: ErrorDetails, cause: str | None) -> str:
    """What is wrong, in the words of who writes a spec and not in the validator's."""
    context = error.get("ctx", {})
    if error["type"] == "missing":
        return "it is needed, and not there"
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
        SpecError: naming the first field at fault, with the first few problems in its message.
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
    """Numbers and arrays of numpy as Python's own, at any depth."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


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
