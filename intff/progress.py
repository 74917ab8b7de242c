"""The events that a training run reports; plain data, so that any package can use them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """The data are loaded and the network is built."""

    device: str
    epochs: int
    first_epoch: int
    """1, or the epoch at which a resumed run continues."""
    train_images: int
    parameters: int
    dataset_source: str


@dataclass(frozen=True)
class Step:
    """Progress within an epoch; reported several times a second."""

    epoch: int
    """The current epoch, from 1."""
    epochs: int
    fraction: float
    """Completed fraction of the run, 0 to 1."""
    samples_per_second: float
    eta_seconds: float


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one finished epoch: means over its training images, and accuracy on the validation set."""

    epoch: int
    seconds: float
    """Wall time of the training steps, without validation."""
    loss: float
    """The training objective: the sum of the unit losses, plus the cross-entropy of a softmax layer if there is one."""
    unit_losses: list[float]
    unit_goodness_positive: list[float]
    unit_goodness_negative: list[float]
    validation_accuracy: float
    learning_rate: float
    """Learning rate of the epoch's first step."""
    samples_per_second: float


@dataclass(frozen=True)
class EpochEnd:
    """An epoch has ended; until the next event is requested, a checkpoint may be saved."""

    metrics: EpochMetrics
    epochs: int
    eta_seconds: float


@dataclass(frozen=True)
class Result:
    """The result of a finished run."""

    test_accuracy: float
    validation_accuracy: float
    """Validation accuracy of the final weights, which are the best epoch's with early stopping."""
    train_seconds: float
    """Wall time of the training steps alone."""
    epochs: int
    """Epochs that were run; early stopping may end a run before `training.epochs`."""
    parameters: int
    dataset_source: str


@dataclass(frozen=True)
class Finished:
    """The run has ended, and the test set has been evaluated, once."""

    result: Result


Event = Started | Step | EpochEnd | Finished
