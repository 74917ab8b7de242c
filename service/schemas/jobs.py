"""Jobs as JSON: the request that creates one, and what the service returns."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from intff.spec import TrainSpec
from store.statuses import JobStatus

SHORT = {"spec": {"architecture": "784,(200,200,200),(50,50)", "algorithm": "intff", "noise": "paper_mixture"}}
CONVOLUTION = {
    "spec": {
        "architecture": "784,(32C5/2,32C3,P2,64C3),(64C3,80C3,P2)",
        "noise": {"kind": "mixture", "share": 0.5, "proportions": {"gaussian": 1, "label_noise": 1}},
        "training": {"epochs": 6, "batch_size": 128},
    },
    "name": "convolutions on noisy data",
}
LONG = {
    "spec": {
        "version": 1,
        "dataset": {"kind": "mnist", "train_size": None, "validation_size": 5000},
        "noise": {"kind": "none"},
        "architecture": {
            "kind": "layers",
            "input_shape": [1, 28, 28],
            "units": [[200, 200, 200], [50, 50]],
            "activation": "relu",
        },
        "algorithm": {
            "kind": "intff",
            "theta": 1.5,
            "goodness": "mean_square",
            "loss": "softplus",
            "negatives": {"kind": "random_label", "count": 1},
            "normalization": "l2",
            "label_encoding": {"kind": "overlay", "value": 1.0},
            "classifier": "goodness",
        },
        "training": {
            "epochs": 20,
            "batch_size": 256,
            "learning_rate": 0.003,
            "optimizer": "adam",
            "schedule": "cosine",
            "early_stopping": None,
            "seed": 0,
            "device": "auto",
            "precision": "float32",
        },
    },
    "name": "the paper's larger network",
    "metadata": {"experiment": "table 1"},
    "priority": 0,
}
JOB_REQUESTS: dict[str, Any] = {
    "short": {"summary": "Only what differs from the defaults, in the paper's notation", "value": SHORT},
    "preset": {"summary": "A preset, with one thing changed", "value": {"spec": {"preset": "fast", "noise": "none"}}},
    "convolution": {"summary": "Convolutions, on a mixture of noise", "value": CONVOLUTION},
    "long": {"summary": "Every field given explicitly", "value": LONG},
}


def storable(text: str) -> str:
    """Refuse text that the database cannot store: the character NUL, and lone surrogates."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        msg = "the character NUL and lone surrogates cannot be stored"
        raise ValueError(msg)
    return text


_DEEPEST = 8


def _kept(value: Any, depth: int = 1) -> Any:  # noqa: ANN401 -- any JSON
    """Any JSON that every database keeps as it is."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and not isfinite(value):
        msg = "a number must be finite"
        raise ValueError(msg)
    if isinstance(value, list | dict) and depth >= _DEEPEST:
        msg = f"metadata may be nested {_DEEPEST} deep, this is deeper"
        raise ValueError(msg)
    if isinstance(value, list):
        return [_kept(part, depth + 1) for part in value]
    if isinstance(value, dict):
        return {storable(name): _kept(part, depth + 1) for name, part in value.items()}
    return value


Text = Annotated[str, AfterValidator(storable)]
Metadata = dict[Text, Annotated[Any, PlainValidator(_kept), WithJsonSchema({})]]


class JobRequest(BaseModel):
    """A training run to start."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    spec: TrainSpec
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)] | None = None
    """A human-readable name; need not be unique."""
    metadata: Metadata | None = None
    """Stored and returned unchanged; any JSON object that is small."""
    priority: Annotated[int, Field(ge=0, le=9, strict=True)] | None = None
    """Jobs with a higher number run first; 0 by default."""


class _AsTrainSpec:
    """Documents a stored spec as a TrainSpec without validating it, so that one of an older version can be shown."""

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TrainSpec.__pydantic_core_schema__)


StoredSpec = Annotated[dict[str, Any], _AsTrainSpec()]


class Progress(BaseModel):
    """How far a job has got."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    epoch: int = 0
    """The current epoch, from 1; 0 before the first."""
    epochs: int
    fraction: float = 0.0
    """The completed fraction of the whole run, 0 to 1."""
    eta_seconds: float | None = None
    """Estimated time left, while the job runs."""
    waiting: Annotated[str | None, Field(exclude_if=lambda says: says is None)] = None
    """Why a queued job does not start; present only if no live worker serves its queue."""


class EpochMetrics(BaseModel):
    """The metrics of one epoch."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    epoch: int
    seconds: float
    loss: float
    unit_losses: list[float]
    """One per hidden unit."""
    unit_goodness_positive: list[float]
    unit_goodness_negative: list[float]
    validation_accuracy: float
    learning_rate: float
    samples_per_second: float


class Result(BaseModel):
    """The result of a succeeded job."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    test_accuracy: float
    train_seconds: float
    """Wall time of the training steps alone."""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Job(BaseModel):
    """One training run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["job"] = "job"
    name: str | None
    status: JobStatus
    is_terminal: bool
    """True once the status will not change again."""
    spec: StoredSpec
    """With every default filled in; submitting it again repeats the run."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    latest_metrics: EpochMetrics | None
    result: Result | None
    attempt: int
    """How many times a worker has started this job; more than once after a crash or a pause."""
    error: JobError | None
    model_id: str | None
    metadata: dict[str, Any]


class JobPage(BaseModel):
    """Jobs, newest first."""

    data: list[Job]
    has_more: bool


class MetricsPage(BaseModel):
    """Every epoch so far, in order."""

    data: list[EpochMetrics]
