"""A training run apart from its steps: its data, its network, its history and its progress events."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

import torch

from intff.build import build_schedule
from intff.calibration import fitted_unit_weights
from intff.checkpoint import History
from intff.errors import Diverged
from intff.inference import accuracy, score
from intff.networks import GoodnessNetwork, Network
from intff.objectives import StepLosses
from intff.progress import EpochEnd, EpochMetrics, Finished, Result, Started, Step
from intff.spec import BP, TrainSpec
from intff.training_data import TrainingData

_MEANS = ("loss", "loss of a unit", "goodness", "goodness of the negative data")  # as in StepLosses
REPORT_SECONDS = 0.2  # often enough for a smooth progress bar and prompt cancellation


@dataclass
class Run:
    """The state of a run, independent of what executes its steps."""

    spec: TrainSpec
    data: TrainingData
    network: Network
    history: History = field(default_factory=History)

    @property
    def images(self) -> int:
        """Number of training images."""
        return len(self.data.train_labels)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the run."""
        rule, history = self.spec.training.early_stopping, self.history
        stopped = rule is not None and history.epoch - history.best_epoch >= rule.patience
        return stopped or history.epoch >= self.spec.training.epochs

    def learning_rate(self, epoch: int, seen: int = 0) -> float:
        """The learning rate of the next step, after `seen` images of an epoch."""
        return self.spec.training.learning_rate * self.scheduled(epoch, seen)

    def scheduled(self, epoch: int, seen: int) -> float:
        """The schedule's factor of the learning rate, after `seen` images of an epoch."""
        return build_schedule(self.spec)((epoch - 1 + seen / self.images) / self.spec.training.epochs)

    def started(self) -> Started:
        """The first event of the run."""
        return Started(
            device=str(self.data.train_labels.device),
            epochs=self.spec.training.epochs,
            first_epoch=self.history.epoch + 1,
            train_images=self.images,
            parameters=self._parameters(),
            dataset_source=self.data.source,
        )

    def step(self, epoch: int, seen: int, seconds: float) -> Step:
        """The progress event after `seen` images and some seconds of an epoch."""
        epochs = self.spec.training.epochs
        done = (epoch - 1 + seen / self.images) / epochs
        return Step(epoch, epochs, done, seen / seconds, self._eta(epoch - 1, seen, seconds))

    def end_epoch(self, epoch: int, seconds: float, sums: StepLosses) -> EpochEnd:
        """Validate, and record a finished epoch.

        Args:
            epoch: from 1.
            seconds: wall time of its steps.
            sums: the steps' losses, each weighted by its number of images, summed.

        Returns:
            The event for the end of the epoch.

        Raises:
            Diverged: a loss or a goodness is NaN or infinite, in the epoch or on the validation images.
        """
        images, history, rate = self.images, self.history, self.spec.training.learning_rate
        means = StepLosses(*(part / images for part in sums))
        for name, mean in zip(_MEANS, means, strict=True):
            if not mean.isfinite().all():
                worst = next(value for value in mean.flatten().tolist() if not isfinite(value))
                msg = f"the {name} became {worst} in epoch {epoch}; lower training.learning_rate, which is {rate}"
                raise Diverged(msg)
        metrics = EpochMetrics(
            epoch=epoch,
            seconds=seconds,
            loss=float(sums.total) / images,
            unit_losses=means.units.tolist(),
            unit_goodness_positive=means.positive.tolist(),
            unit_goodness_negative=means.negative.tolist(),
            validation_accuracy=self._validate(),
            learning_rate=self.learning_rate(epoch),
            samples_per_second=images / seconds,
        )
        history.record(epoch, seconds, metrics.validation_accuracy)
        if self.spec.training.early_stopping is not None and history.best_epoch == epoch:
            history.best_weights = {name: w.clone() for name, w in self.network.state_dict().items()}
        return EpochEnd(metrics, self.spec.training.epochs, eta_seconds=self._eta(epoch))

    def finish(self) -> Finished:
        """Restore the best epoch's weights if there is early stopping, and evaluate on the test set, once.

        Raises:
            Diverged: the goodness of a test image is NaN or infinite.
        """
        history = self.history
        if history.best_weights:
            self.network.load_state_dict(history.best_weights)
        kept = history.best_epoch if history.best_weights else history.epoch
        result = Result(
            test_accuracy=accuracy(self.network, self.data.test_images, self.data.test_labels),
            validation_accuracy=history.validation_accuracies[kept - 1],
            train_seconds=history.train_seconds,
            epochs=history.epoch,
            parameters=self._parameters(),
            dataset_source=self.data.source,
        )
        return Finished(result)

    def _validate(self) -> float:
        """Accuracy on the validation images; first calibrates the unit weights on them if the spec says so."""
        images, labels = self.data.validation_images, self.data.validation_labels
        algorithm = self.spec.algorithm
        if not isinstance(algorithm, BP) and algorithm.unit_weights == "calibrated":
            assert isinstance(self.network, GoodnessNetwork)
            unit_goodness = score(self.network, images).unit_goodness
            assert unit_goodness is not None
            self.network.unit_weights.copy_(fitted_unit_weights(unit_goodness, labels))
        return accuracy(self.network, images, labels)

    def _eta(self, epochs_done: int, seen: int = 0, seconds: float = 0.0) -> float:
        """Estimated training seconds remaining, at the run's mean speed so far."""
        done = epochs_done + seen / self.images
        spent = self.history.train_seconds + seconds
        return spent / done * (self.spec.training.epochs - done) if done else 0.0

    def _parameters(self) -> int:
        return sum(weight.numel() for weight in self.network.parameters())


def added(sums: StepLosses | None, losses: StepLosses, weight: int) -> StepLosses:
    """Add a step's losses, times `weight`, to the sums, without gradients and without synchronising the device."""
    parts = [part.detach() for part in losses]
    if sums is None:
        return StepLosses(*(part * weight for part in parts))
    return StepLosses(*(total.add_(part, alpha=weight) for total, part in zip(sums, parts, strict=True)))


def clear(sums: StepLosses | None) -> None:
    """Set an epoch's sums to zero in place."""
    for total in sums or ():
        total.zero_()


def on_cpu(sums: StepLosses | None) -> StepLosses:
    """Copy an epoch's sums to the CPU."""
    assert sums is not None, "an epoch has at least one step"
    return StepLosses(*(total.to("cpu", copy=True) for total in sums))


def make_repeatable(device: torch.device) -> None:
    """Make cuDNN deterministic, so that a resumed run ends with the same weights as an uninterrupted one.

    The setting affects the whole process; torch has none per thread.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
