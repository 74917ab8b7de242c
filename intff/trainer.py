"""The training loop: it owns the data, the network and the optimizer, yields progress and prints nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from intff import checkpoint, training_data
from intff.batches import Batch, epoch_batches
from intff.build import build_network, build_objective, build_schedule, choose_device, draw_negatives
from intff.calibration import fitted_unit_weights
from intff.checkpoint import History
from intff.errors import Diverged, OutOfMemory
from intff.export import Manifest, export_model
from intff.inference import accuracy, score
from intff.networks import GoodnessNetwork
from intff.objectives import LocalObjective, Objective, StepLosses
from intff.progress import EpochEnd, EpochMetrics, Event, Finished, Result, Started, Step
from intff.spec import BP, TrainSpec

_REPORT_SECONDS = 0.2  # a progress bar moves smoothly, and a cancelled run stops at once


class Trainer:
    """One training run of one spec.

    Args:
        spec: what to train.
        data_dir: where to look for the data set first; None looks in INTFF_DATA_DIR.
        resume_from: a checkpoint folder of the same spec to go on from.
        show_download: draw a progress bar if the data set must be downloaded.

    Raises:
        DatasetError: the data set is not to be had, or damaged.
        DeviceUnavailable: the spec asks for a device that is not here.
        CheckpointError: `resume_from` is damaged or of another spec.
        OutOfMemory: the data or the network do not fit.
    """

    def __init__(
        self,
        spec: TrainSpec,
        *,
        data_dir: Path | None = None,
        resume_from: Path | None = None,
        show_download: bool = False,
    ) -> None:
        self.spec = spec
        self.device = choose_device(spec.training.device)
        with _named_memory_errors():
            self._data = training_data.load(spec, self.device, data_dir=data_dir, show_download=show_download)
            self.network = build_network(spec).to(self.device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=spec.training.learning_rate, fused=True)
        self._history = History()
        self._result: Result | None = None
        if resume_from is not None:
            self._history = checkpoint.load(resume_from, spec, self.network, self._optimizer)

    def run(self) -> Iterator[Event]:
        """Train, and report; closing the iterator stops the run where it is.

        Raises:
            Diverged: the loss became NaN or infinite.
            OutOfMemory: the device's memory did not suffice.
        """
        with _named_memory_errors():
            yield from self._run()

    def save_checkpoint(self, folder: Path) -> None:
        """Write what is needed to go on from the last epoch's end; atomic: the folder is whole or not there."""
        checkpoint.save(folder, self.spec, self.network, self._optimizer, self._history)

    def export_model(self, folder: Path) -> Manifest:
        """Write the finished model's files into a folder that does not exist yet."""
        assert self._result is not None, "export_model comes after Finished"
        return export_model(folder, self.spec, self.network, self._result)

    def _run(self) -> Iterator[Event]:
        history, training = self._history, self.spec.training
        yield Started(
            device=str(self.device),
            epochs=training.epochs,
            first_epoch=history.epoch + 1,
            train_images=len(self._data.train_labels),
            parameters=self._parameters(),
            dataset_source=self._data.source,
        )
        while history.epoch < training.epochs and not self._stopped_early():
            metrics = yield from self._epoch(history.epoch + 1)
            history.record(metrics.epoch, metrics.seconds, metrics.validation_accuracy)
            if training.early_stopping is not None and history.best_epoch == history.epoch:
                history.best_weights = {name: w.clone() for name, w in self.network.state_dict().items()}
            yield EpochEnd(metrics, training.epochs, eta_seconds=self._eta(history.epoch))
        if history.best_weights:
            self.network.load_state_dict(history.best_weights)
        kept = history.best_epoch if history.best_weights else history.epoch
        self._result = Result(
            test_accuracy=accuracy(self.network, self._data.test_images, self._data.test_labels),
            validation_accuracy=history.validation_accuracies[kept - 1],
            train_seconds=history.train_seconds,
            epochs=history.epoch,
            parameters=self._parameters(),
            dataset_source=self._data.source,
        )
        yield Finished(self._result)

    def _epoch(self, epoch: int) -> Generator[Step, None, EpochMetrics]:
        data, training = self._data, self.spec.training
        objective = build_objective(self.spec, self.network)
        schedule = build_schedule(self.spec)
        images = len(data.train_labels)
        sums: StepLosses | None = None
        seen, seconds = 0, 0.0
        resumed = reported = perf_counter()
        first_rate = training.learning_rate * schedule((epoch - 1) / training.epochs)
        batches = epoch_batches(
            data.train_images,
            data.train_labels,
            batch_size=training.batch_size,
            jitter=training.jitter,
            seed=training.seed,
            epoch=epoch,
            draw_negatives=lambda shifted, labels, generator: draw_negatives(self.spec, shifted, labels, generator),
        )
        for batch in batches:
            done = (epoch - 1 + seen / images) / training.epochs
            self._optimizer.param_groups[0]["lr"] = training.learning_rate * schedule(done)
            losses = self._learn(objective, batch)
            sums = _added(sums, losses, weight=len(batch.labels))
            seen += len(batch.labels)
            if perf_counter() - reported > _REPORT_SECONDS:
                seconds += perf_counter() - resumed
                rate = seen / seconds
                done = (epoch - 1 + seen / images) / training.epochs
                yield Step(epoch, training.epochs, done, rate, self._eta(epoch - 1, seen, seconds))
                resumed = reported = perf_counter()
        assert sums is not None
        loss = float(sums.total) / images  # waits for the device
        seconds += perf_counter() - resumed
        if not isfinite(loss):
            rate = training.learning_rate
            msg = f"the loss became {loss} in epoch {epoch}; lower training.learning_rate, which is {rate}"
            raise Diverged(msg)
        return EpochMetrics(
            epoch=epoch,
            seconds=seconds,
            loss=loss,
            unit_losses=(sums.units / images).tolist(),
            unit_goodness_positive=(sums.positive / images).tolist(),
            unit_goodness_negative=(sums.negative / images).tolist(),
            validation_accuracy=self._validate(),
            learning_rate=first_rate,
            samples_per_second=images / seconds,
        )

    def _learn(self, objective: Objective, batch: Batch) -> StepLosses:
        training = self.spec.training
        if training.unit_order == "one_by_one" and isinstance(objective, LocalObjective):
            return objective.one_by_one(*batch, step=self._descend, steps=training.steps_per_unit)
        losses = objective(*batch)
        self._descend(losses.total)
        return losses

    def _descend(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()

    def _validate(self) -> float:
        """Accuracy on the validation images, after the units' weights were fitted to them where the spec says so."""
        images, labels = self._data.validation_images, self._data.validation_labels
        algorithm = self.spec.algorithm
        if not isinstance(algorithm, BP) and algorithm.unit_weights == "calibrated":
            assert isinstance(self.network, GoodnessNetwork)
            unit_goodness = score(self.network, images).unit_goodness
            assert unit_goodness is not None
            self.network.unit_weights.copy_(fitted_unit_weights(unit_goodness, labels))
        return accuracy(self.network, images, labels)

    def _stopped_early(self) -> bool:
        rule = self.spec.training.early_stopping
        return rule is not None and self._history.epoch - self._history.best_epoch >= rule.patience

    def _eta(self, epochs_done: int, seen: int = 0, seconds: float = 0.0) -> float:
        """Training seconds to go, at the mean speed of this run so far."""
        done = epochs_done + seen / len(self._data.train_labels)
        spent = self._history.train_seconds + seconds
        return spent / done * (self.spec.training.epochs - done) if done else 0.0

    def _parameters(self) -> int:
        return sum(weight.numel() for weight in self.network.parameters())


@contextmanager
def _named_memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        msg = f"training needed more memory than the device has; make the batch or the network smaller ({error})"
        raise OutOfMemory(msg) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        msg = "training needed more memory than this machine has; make the batch or the network smaller"
        raise OutOfMemory(msg) from error


def _added(sums: StepLosses | None, losses: StepLosses, weight: int) -> StepLosses:
    weighted = StepLosses(*(part.detach() * weight for part in losses))
    return weighted if sums is None else StepLosses(*(a + b for a, b in zip(sums, weighted, strict=True)))
