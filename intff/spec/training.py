"""The schedule: how long, how fast, on what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from intff.spec.base import SpecPart


class EarlyStopping(SpecPart):
    """Stop when validation accuracy has not risen for some epochs, and keep the best epoch's weights."""

    patience: Annotated[int, Field(ge=1, le=10**6, strict=True)] = 5
    """Epochs without a new best before training stops."""


class Training(SpecPart):
    """The schedule, the same for every algorithm."""

    epochs: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 30
    batch_size: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=10, strict=True)] = 0.003
    """Of Adam, at the schedule's highest."""
    optimizer: Literal["adam"] = "adam"
    schedule: Literal["constant", "cosine", "hold_then_decay"] = "cosine"
    """How the learning rate goes on, step by step: as it is; down to zero along half a cosine; or as it is for half of
    the run and then down to zero in a straight line."""
    warmup: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    """The share of the run in which the learning rate rises from zero, before its schedule."""
    unit_order: Literal["together", "one_by_one"] = "together"
    """All hidden units learn from a batch at once; or one unit after the other, each on what the one before has just
    become, as in the author's experiments. Backpropagation has one unit."""
    steps_per_unit: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    """Optimizer steps on each batch, of each unit in its turn; more than one needs `one_by_one`."""
    jitter: Annotated[int, Field(ge=0, le=8, strict=True)] = 1
    """Each training image is shifted by up to so many pixels, anew every epoch; 0 leaves it in place."""
    early_stopping: EarlyStopping | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53, strict=True)] = 0
    """As far as every JSON program counts exactly; many round a larger number without a word."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32"] = "float32"
    """Of all numbers and matrix products. Convolutions on a GPU round their factors to TF32, torch's default there."""
