"""Base of every part of a training spec: immutable, without unknown fields, and with a short string form."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class SpecPart(BaseModel):
    """An immutable part of a spec that rejects unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def as_written(value: Any) -> Any:  # noqa: ANN401 -- of any field
    """A part as the fields it was created with, so that its spec may fill in the others; other values unchanged."""
    if not isinstance(value, SpecPart):
        return value
    given = {name: as_written(getattr(value, name)) for name in value.model_fields_set}
    return {"kind": value.kind, **given} if hasattr(value, "kind") else given


class _Untagged:
    """Documents a union of parts as anyOf, since a value without a kind may match several of them."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        for union in (schema, *schema.get("anyOf", ())):
            if "oneOf" in union:
                union["anyOf"] = union.pop("oneOf")
        return schema


def named(default: str, written: object) -> BeforeValidator:
    """Accept a part written as its name, "mnist" for {"kind": "mnist"}, or as an object without a kind.

    Args:
        default: the kind of an object that has none.
        written: the type of every accepted form, for the JSON schema of requests.
    """

    def read(value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict) and "kind" not in value:
            return {"kind": default, **value}
        return value

    return BeforeValidator(read, json_schema_input_type=Annotated[written, _Untagged()])
