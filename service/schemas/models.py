"""Models, their files and their aliases as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.jobs import Result, StoredSpec


class Artifact(BaseModel):
    """One file of a model."""

    name: str
    bytes: int
    sha256: str
    url: str


class Model(BaseModel):
    """A model that a succeeded job published."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    name: str | None
    """The job's name."""
    job_id: str
    created_at: datetime
    aliases: list[str]
    """Aliases that point here now; `latest` is not listed, since it always follows the newest model."""
    labels: list[str]
    image_shape: list[int]
    """Channels, height and width of one image."""
    algorithm: str
    classifier: Literal["goodness", "softmax"]
    theta: float | None
    units: int
    """Hidden units: the number of local losses."""
    parameters: int
    result: Result
    spec: StoredSpec
    artifacts: list[Artifact]


class ModelPage(BaseModel):
    """Models, newest first."""

    data: list[Model]
    has_more: bool


ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ALIAS_REQUESTS: dict[str, Any] = {"id": {"summary": "By the model's id", "value": {"model": "mdl_06f2k4m8"}}}


class AliasRequest(BaseModel):
    """The model that an alias should point at."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(pattern=ALIAS_PATTERN, description="A model's id, or another alias of it.")]


class Alias(BaseModel):
    """A name that points at a model."""

    object: Literal["alias"] = "alias"
    alias: str
    model: str


class Preset(BaseModel):
    """A complete training spec with a name."""

    name: str
    description: str
    spec: StoredSpec


class PresetList(BaseModel):
    """Every preset."""

    data: list[Preset]
