"""One attempt at a job: train from where an earlier attempt stopped, report, and end the job in exactly one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import torch
from sqlalchemy.orm import Session

from intff.errors import CheckpointError
from intff.progress import EpochEnd, Event, Finished, Result, Started, Step
from intff.spec import read_spec
from intff.trainer import Trainer
from store.artifacts import Artifacts
from store.attempts import Claim, fail, hand_back, succeed
from store.errors import ArtifactCorrupt
from store.leftovers import Ended, note_files, remove_files
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt as AttemptRow
from store.tables import Job
from worker.checkpoints import Checkpoints
from worker.cooldown import COOLDOWN
from worker.failures import DISK_FULL, describe
from worker.lease import Halt, Halted, Lease
from worker.retries import retry

log = structlog.get_logger("intff.attempt")

PUT_PAUSES = (1.0, 3.0, 10.0, 30.0, *[60.0] * 10)
"""Seconds between attempts to store a trained model."""

EPOCH_PATIENCE = 1.0
"""Seconds that a request to pause or stop may wait for the end of an epoch, where a checkpoint saves all progress;
otherwise the epochs since the last checkpoint would be trained again. A request must be obeyed within two seconds."""


class Attempt:
    """One execution of a claimed job.

    Args:
        claim: the job, and the fencing token of all writes.
        lease: the running exchange with the database.
        artifacts: where checkpoints and the model go.
        scratch: an empty folder for this attempt alone.
        data_dir: where data set files are searched for first.
        publish: sends a job's id to the queue.
    """

    def __init__(
        self,
        claim: Claim,
        lease: Lease,
        *,
        artifacts: Artifacts,
        scratch: Path,
        data_dir: Path | None,
        publish: Callable[[Job], None],
    ) -> None:
        self._claim = claim
        self._lease = lease
        self._artifacts = artifacts
        self._scratch = scratch
        self._data_dir = data_dir
        self._publish = publish
        self._checkpoints = Checkpoints(claim, lease, artifacts, scratch)
        self._prefix = f"models/{claim.job_id}/attempt-{claim.attempt}"
        self._has_unsaved_epochs = False

    def run(self) -> None:
        """Train until the end, a stop request or an error, and record which of them it was."""
        threads = torch.get_num_threads()
        try:
            trainer, result = self._train()
            self._succeed(trainer, result)
        except Halted as halted:
            self._let_go(halted.halt)
        except Exception as error:  # noqa: BLE001 - whatever it was, the job's owner must learn of it
            self._fail(error)
        finally:  # a checkpoint sets its own number of threads, which must not affect the next job
            torch.set_num_threads(threads)

    def _train(self) -> tuple[Trainer, Result]:
        trainer = self._resume()
        for event in trainer.run():
            if isinstance(event, Finished):
                # A request that arrives now comes too late to save work; `succeed` still honours a cancel.
                epochs = event.result.epochs
                self._lease.progress = _progress(epochs, trainer.spec.training.epochs, 1.0, 0.0)
                return trainer, event.result
            self._note(event, trainer)
            if not self._goes_on_to_the_epochs_end(event):
                self._lease.obey()
        message = "the trainer ended without a result"
        raise RuntimeError(message)

    def _resume(self) -> Trainer:
        """A trainer that resumes from the newest intact checkpoint, or starts from the beginning."""
        spec = read_spec(self._claim.spec)
        for folder in self._checkpoints.fetch():
            try:
                return Trainer(spec, data_dir=self._data_dir, resume_from=folder)
            except CheckpointError as error:
                log.warning("checkpoint_refused", error=str(error))
        return Trainer(spec, data_dir=self._data_dir)

    def _note(self, event: Event, trainer: Trainer) -> None:
        match event:
            case Started():
                log.info("training", **asdict(event))
                done = event.first_epoch - 1
                self._lease.progress = _progress(done, event.epochs, done / event.epochs, None)
            case Step():
                self._lease.progress = _progress(event.epoch, event.epochs, event.fraction, event.eta_seconds)
            case EpochEnd():
                self._end_epoch(event, trainer)

    def _end_epoch(self, event: EpochEnd, trainer: Trainer) -> None:
        metrics = asdict(event.metrics)
        epoch = event.metrics.epoch
        progress = _progress(epoch, event.epochs, epoch / event.epochs, event.eta_seconds)
        self._lease.report_epoch(metrics, progress)
        self._checkpoints.prune()
        # After a pause or stop, the next attempt should resume from here and not from an earlier epoch.
        is_last_chance = self._lease.is_ordered and self._lease.halt not in {Halt.CANCEL, Halt.LOST}
        is_saved = is_last_chance or (epoch < event.epochs and self._checkpoints.is_due)
        if is_saved:
            self._checkpoints.save(trainer, epoch)
        self._has_unsaved_epochs = not is_saved

    def _goes_on_to_the_epochs_end(self, event: Event) -> bool:
        """Whether a pending request can wait: there are unsaved epochs, and the end of this one is near."""
        is_at_once = self._lease.halt in {Halt.CANCEL, Halt.LOST}
        if is_at_once or not self._has_unsaved_epochs or not isinstance(event, Step):
            return False
        return _left_of_epoch(event) < EPOCH_PATIENCE

    def _succeed(self, trainer: Trainer, result: Result) -> None:
        folder = self._scratch / "model"
        manifest = trainer.export_model(folder)
        prefix = self._prefix
        put = partial(self._artifacts.put_folder, folder, prefix)
        stored = retry(put, prefix, pauses=PUT_PAUSES, lease=self._lease)
        for name, record in manifest.files.items():
            if stored[name]["sha256"] != record["sha256"]:
                message = f"{name} changed while it was stored: {stored[name]['sha256']}, not {record['sha256']}"
                raise ArtifactCorrupt(message)

        def publish_model(session: Session) -> str | None:
            facts = asdict(manifest)
            model = succeed(session, self._claim, manifest=facts, prefix=prefix, result=asdict(result))
            return None if model is None else model.id

        model_id = self._lease.settle(publish_model)
        outcome = AttemptOutcome.SUCCEEDED if model_id else self._outcome()
        log.info("ended", outcome=outcome, model=model_id, test_accuracy=result.test_accuracy)
        if outcome is AttemptOutcome.SUCCEEDED:
            self._tidy(prefix)
        elif outcome is AttemptOutcome.CANCELLED:
            self._tidy()
        elif outcome is AttemptOutcome.LOST:
            self._lose()

    def _let_go(self, halt: Halt) -> None:
        """Leave the job as its owner wants it: cancelled, paused, or queued for another worker."""
        if halt is Halt.LOST:
            self._lose()
            return

        def leave(session: Session) -> Job | None:
            return session.get(Job, self._claim.job_id) if hand_back(session, self._claim) else None

        job = self._lease.settle(leave)
        self._checkpoints.prune()
        log.info("stopped", halt=halt, status=job.status if job else None)
        if job is not None and job.status is JobStatus.QUEUED:
            self._publish(job)
        elif job is not None and job.status is JobStatus.CANCELLED:
            self._tidy()
        elif job is None:
            self._lose_if_lost()

    def _fail(self, error: Exception) -> None:
        code, message = describe(error)
        log.error("failed", code=code, message=message, exc_info=error)
        if code == DISK_FULL:
            COOLDOWN.begin()
        if self._lease.settle(lambda session: fail(session, self._claim, code=code, message=message)):
            self._tidy()
        else:
            self._lose_if_lost()

    def _lose_if_lost(self) -> None:
        """Treat the claim as lost if the attempt's row says so, after a final write that was refused or unconfirmed."""
        if self._outcome() is AttemptOutcome.LOST:
            self._lose()

    def _lose(self) -> None:
        """Leave the job to whoever holds it now; only mark its files for another cleanup after it has ended."""
        log.warning("claim_lost")
        self._delete(lambda: self._artifacts.delete_prefix(self._prefix))
        self._lease.ask(lambda session: note_files(session, self._claim.job_id))

    def _outcome(self) -> AttemptOutcome | None:
        """How this attempt ended, by its row: its last write may have been committed although no reply arrived."""

        def read(session: Session) -> AttemptOutcome | None:
            row = session.get(AttemptRow, (self._claim.job_id, self._claim.attempt))
            return row.outcome if row else None

        return self._lease.ask(read)

    def _tidy(self, model_prefix: str | None = None) -> None:
        """Remove files that no job will resume from and no model refers to."""
        self._delete(lambda: remove_files(self._artifacts, Ended(self._claim.job_id, model_prefix)))

    def _delete(self, delete: Callable[[], None]) -> None:
        try:
            delete()
        except Exception as error:  # noqa: BLE001 - the job has ended well; housekeeping tries again
            log.warning("delete_failed", error=str(error))


def _left_of_epoch(step: Step) -> float:
    """Seconds to the end of the current epoch."""
    left = 1 - step.fraction  # of the whole run
    return step.eta_seconds * (step.epoch / step.epochs - step.fraction) / left if left else 0.0


def _progress(epoch: int, epochs: int, fraction: float, eta_seconds: float | None) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": epochs, "fraction": fraction, "eta_seconds": eta_seconds}
