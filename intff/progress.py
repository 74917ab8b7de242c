"""What a training run reports while it goes on; plain data, so that any room may read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """The data are loaded and the network is built."""

    device: str
    epochs: int
    first_epoch: int
    """1, or the epoch at which a resumed run goes on."""
    train_images: int
    parameters: int
    dataset_source: str


@dataclass(frozen=True)
class Step:
    """Some training steps later; reported several times a second."""

    epoch: int
    """The epoch under way, from 1."""
    epochs: int
    fraction: float
    """Of the whole run that is done, 0 to 1."""
    samples_per_second: float
    eta_seconds: float


@dataclass(frozen=True)
class EpochMetrics:
    """One finished epoch: means over its training batches, and accuracy on the validation split."""

    epoch: int
    seconds: float
    """Wall time of the training steps, without validation."""
    loss: float
    """What is minimised: the sum of the unit losses, and the softmax layer's cross-entropy where there is one."""
    unit_losses: list[float]
    unit_goodness_positive: list[float]
    unit_goodness_negative: list[float]
    validation_accuracy: float
    learning_rate: float
    """At the epoch's first step."""
    samples_per_second: float


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is over; until the next event is asked for, a checkpoint may be saved."""

    metrics: EpochMetrics
    epochs: int
    eta_seconds: float


@dataclass(frozen=True)
class Result:
    """What a finished run gives."""

    test_accuracy: float
    validation_accuracy: float
    """Of the weights that are kept."""
    train_seconds: float
    """Wall time of the training steps alone."""
    epochs: int
    """Epochs that were run; fewer than asked for after early stopping."""
    parameters: int
    dataset_source: str


@dataclass(frozen=True)
class Finished:
    """The run is over and the test set has been looked at, once."""

    result: Result


Event = Started | Step | EpochEnd | Finished
