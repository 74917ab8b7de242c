"""The training schedule, the optimizer and the device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from intff.spec.base import SpecPart


class EarlyStopping(SpecPart):
    """Stop when validation accuracy has not improved for some epochs, and keep the weights of the best epoch."""

    patience: Annotated[int, Field(ge=1, le=10**6, strict=True)] = 5
    """Number of epochs without improvement after which training stops."""


class Training(SpecPart):
    """Training settings, the same for every algorithm."""

    epochs: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 30
    batch_size: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=10, strict=True)] = 0.003
    """Adam's learning rate at the schedule's peak."""
    optimizer: Literal["adam"] = "adam"
    schedule: Literal["constant", "cosine", "hold_then_decay"] = "cosine"
    """How the learning rate changes, step by step: `constant`; `cosine` decays to zero along half a cosine;
    `hold_then_decay` is constant for half of the run and then decays linearly to zero."""
    warmup: Annotated[float, Field(ge=0, le=0.5, strict=True)] = 0.0
    """Fraction of the run in which the learning rate rises linearly from zero, before the schedule begins."""
    unit_order: Literal["together", "one_by_one"] = "together"
    """`together` updates all hidden units at once on each batch; `one_by_one` updates them in turn, each on the output
    of the updated previous unit, as in the author's experiments. Backpropagation has one unit."""
    steps_per_unit: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    """Optimizer steps that each unit takes on each batch; more than one needs `one_by_one`."""
    jitter: Annotated[int, Field(ge=0, le=8, strict=True)] = 1
    """Maximum random shift of a training image in each direction, in pixels, redrawn every epoch; 0 for none."""
    early_stopping: EarlyStopping | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53, strict=True)] = 0
    """Below 2**53, since many JSON implementations silently round larger integers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32"] = "float32"
    """Of all values and matrix products. Convolutions on a GPU round their inputs to TF32, torch's default there."""
