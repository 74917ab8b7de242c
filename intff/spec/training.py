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
    """Of Adam, at the start of the schedule."""
    optimizer: Literal["adam"] = "adam"
    schedule: Literal["constant", "cosine"] = "cosine"
    """How the learning rate goes on: as it is, or down to zero along half a cosine, step by step."""
    jitter: Annotated[int, Field(ge=0, le=8, strict=True)] = 1
    """Each training image is shifted by up to so many pixels, anew every epoch; 0 leaves it in place."""
    early_stopping: EarlyStopping | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53, strict=True)] = 0
    """As far as every JSON program counts exactly; many round a larger number without a word."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32"] = "float32"
