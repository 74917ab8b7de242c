"""The training loop, which owns the data, the network and the optimizer, and yields progress events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor

from intff import checkpoint, training_data
from intff.batches import Movable, draw_epoch
from intff.build import build_network, choose_device, draw_negatives
from intff.export import Manifest, export_model
from intff.learning import Learner
from intff.memory import named_memory_errors
from intff.objectives import StepLosses
from intff.progress import EpochEnd, Event, Result, Step
from intff.recorded import Recorded, Take, plainly
from intff.runs import REPORT_SECONDS, Run, added, clear, make_repeatable, on_cpu
from intff.spec import TrainSpec, read_spec


class Trainer:
    """One training run of one spec.

    Args:
        spec: what to train: a whole spec, or the fields that differ from the defaults.
        data_dir: where to look for the data set first; None means INTFF_DATA_DIR.
        resume_from: a checkpoint folder of the same spec to resume from. It also sets this process's number of
            threads to that of the process that wrote it, so that the weights are identical bit for bit.
        show_download: draw a progress bar if the data set must be downloaded.

    Raises:
        SpecError: the spec cannot be run.
        DatasetError: the data set is unavailable or damaged.
        DeviceUnavailable: the spec requests a device that is not available.
        CheckpointError: `resume_from` is damaged or of another spec.
        OutOfMemory: the data or the network do not fit.
    """

    def __init__(
        self,
        spec: TrainSpec | Mapping[str, Any],
        *,
        data_dir: Path | None = None,
        resume_from: Path | str | None = None,
        show_download: bool = False,
    ) -> None:
        spec = read_spec(spec)  # a copy with other fields may not be in normal form
        self.spec = spec
        self.device = choose_device(spec.training.device)
        make_repeatable(self.device)
        with named_memory_errors():
            data = training_data.load(spec, self.device, data_dir=data_dir, show_download=show_download)
            self._images = Movable(data.train_images, spec.training.jitter)
            self.network = build_network(spec).to(self.device)
            self._run = Run(spec, data, self.network)
            self._learner = Learner(spec, self.network)
        self._sums: StepLosses | None = None
        self._take: Take = Recorded() if self.device.type == "cuda" else plainly
        self._result: Result | None = None
        self._is_within_epoch = False
        if resume_from is not None:
            self._run.history = checkpoint.load(Path(resume_from), spec, self.network, self._learner.optimizer)

    def run(self) -> Iterator[Event]:
        """Train, and yield progress events; closing the iterator stops the run at once.

        Raises:
            Diverged: a loss or a goodness became NaN or infinite.
            OutOfMemory: the device ran out of memory.
            RuntimeError: an earlier iterator was closed within an epoch, so that the state at its start is lost.
        """
        if self._is_within_epoch:
            msg = "the run was stopped within an epoch; create a new Trainer that resumes from the last checkpoint"
            raise RuntimeError(msg)
        with named_memory_errors():
            run = self._run
            yield run.started()
            while not run.is_over:
                yield (yield from self._epoch(run.history.epoch + 1))
            finished = run.finish()
            self._result = finished.result
            yield finished

    def save_checkpoint(self, folder: Path | str) -> None:
        """Write everything needed to resume from the end of the last epoch, atomically, to a new folder.

        Raises:
            RuntimeError: an epoch is in progress; save after `EpochEnd`.
        """
        if self._is_within_epoch:
            msg = "an epoch is in progress; save a checkpoint at its end, after EpochEnd"
            raise RuntimeError(msg)
        checkpoint.save(Path(folder), self.spec, self.network, self._learner.optimizer, self._run.history)

    def export_model(self, folder: Path | str) -> Manifest:
        """Write the finished model's files to a new folder.

        Raises:
            RuntimeError: the run has not finished; export after `Finished`.
        """
        if self._result is None:
            msg = "the run has not finished; export the model after Finished"
            raise RuntimeError(msg)
        return export_model(Path(folder), self.spec, self.network, self._result)

    def _epoch(self, epoch: int) -> Generator[Step, None, EpochEnd]:
        self._is_within_epoch = True
        run, training = self._run, self.spec.training
        clear(self._sums)
        seen, seconds = 0, 0.0
        resumed = reported = perf_counter()
        drawn = draw_epoch(
            self._images,
            run.data.train_labels,
            seed=training.seed,
            epoch=epoch,
            draw_negatives=lambda shifted, labels, generator: draw_negatives(self.spec, shifted, labels, generator),
        )
        for part in drawn.parts(training.batch_size):
            self._learner.optimizer.rate.fill_(run.learning_rate(epoch, seen))
            self._take(self._learn, *part)
            seen += len(part[0])
            if perf_counter() - reported > REPORT_SECONDS:
                seconds += perf_counter() - resumed
                yield run.step(epoch, seen, seconds)
                resumed = reported = perf_counter()
        sums = on_cpu(self._sums)  # waits for the device
        seconds += perf_counter() - resumed
        ended = run.end_epoch(epoch, seconds, sums)
        self._is_within_epoch = False
        return ended

    def _learn(self, starts: Tensor, labels: Tensor, negatives: Tensor) -> None:
        """Take a step, and add its losses to the epoch's sums."""
        losses = self._learner.step(self._images.batch(starts, labels, negatives))
        self._sums = added(self._sums, losses, weight=len(labels))
