"""An attempt's checkpoints in the artifact store: when one is due, saving, deleting old ones, fetching the newest."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic

import structlog

from intff.trainer import Trainer
from store.artifacts import Artifacts
from store.attempts import Claim, record_checkpoint
from store.errors import ArtifactCorrupt, ArtifactMissing, ArtifactsUnavailable
from worker.failures import is_disk_full
from worker.lease import Halt, Halted, Lease
from worker.retries import retry

log = structlog.get_logger("intff.checkpoints")

SHORTEST_PAUSE = 2.0
"""Seconds: bounds what a crash may cost, without writing after each of many short epochs."""
COST_SHARE = 0.01
"""The largest share of the time spent on checkpoints, however slow the disk or the artifact store is; one of 3 MB
takes about 30 ms, so with epochs of one second, every third or fourth is saved."""
FETCH_PAUSES = (1.0, 3.0, 10.0, 30.0, 60.0)
"""Seconds between attempts to fetch a checkpoint."""
KEPT = 2
"""The newest, and the previous one in case the newest turns out to be damaged."""


class Checkpoints:
    """The checkpoints of one attempt, beginning with those that it may resume from."""

    def __init__(self, claim: Claim, lease: Lease, artifacts: Artifacts, scratch: Path) -> None:
        self._claim = claim
        self._lease = lease
        self._artifacts = artifacts
        self._scratch = scratch
        self._recorded: deque[str] = deque(record["prefix"] for record in reversed(claim.checkpoints))
        # Each counter is written by one thread only: the first by the training thread, the second by the lease.
        self._saved = 0
        self._noted = 0
        self._next = monotonic() + SHORTEST_PAUSE

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed for another one, and the last one is recorded in the database."""
        return self._saved == self._noted and monotonic() >= self._next

    def fetch(self) -> Iterator[Path]:
        """The checkpoints to resume from, newest first, each copied to the scratch folder and checked.

        Raises:
            Halted: the store stays unavailable, so the job goes back into the queue; or a stop request arrived.
        """
        is_away: ArtifactsUnavailable | None = None
        for record in self._claim.checkpoints:
            folder = self._scratch / f"resume-{record['epoch']}"
            fetch = partial(self._artifacts.fetch_folder, record["prefix"], folder, record["files"])
            try:
                # If one could not be fetched for so long, it may be that file alone, so try the previous one, once.
                retry(fetch, record["prefix"], pauses=() if is_away else FETCH_PAUSES, lease=self._lease)
            except (ArtifactMissing, ArtifactCorrupt) as error:
                log.warning("checkpoint_unusable", prefix=record["prefix"], error=str(error))
            except ArtifactsUnavailable as error:
                is_away = error
            else:
                log.info("resuming", epoch=record["epoch"], prefix=record["prefix"])
                yield folder
            shutil.rmtree(folder, ignore_errors=True)
        if is_away is not None:  # no other checkpoint was usable
            raise Halted(Halt.STOP) from is_away

    def save(self, trainer: Trainer, epoch: int) -> None:
        """Save the state at an epoch's end; an unavailable artifact store costs the checkpoint, not the training."""
        began = monotonic()
        folder = self._scratch / f"checkpoint-{epoch}"
        prefix = f"jobs/{self._claim.job_id}/attempt-{self._claim.attempt}/checkpoint-{epoch}"
        trainer.save_checkpoint(folder)
        try:
            files = self._artifacts.put_folder(folder, prefix)
        except Exception as error:  # every kind of artifact store has its own errors
            if is_disk_full(error):
                raise
            log.warning("checkpoint_not_saved", epoch=epoch, error=str(error))
        else:
            self._saved += 1
            record = {"prefix": prefix, "epoch": epoch, "files": files}
            self._lease.report(
                lambda session: record_checkpoint(session, self._claim, record),
                then=lambda: self._note_recorded(prefix),
            )
        shutil.rmtree(folder, ignore_errors=True)
        now = monotonic()
        self._next = now + max(SHORTEST_PAUSE, (now - began) / COST_SHARE)

    def prune(self) -> None:
        """Delete what the job's row no longer names."""
        while len(self._recorded) > KEPT:
            prefix = self._recorded.popleft()
            try:
                self._artifacts.delete_prefix(prefix)
            except Exception as error:  # noqa: BLE001 - leftovers only cost space
                log.warning("delete_failed", prefix=prefix, error=str(error))

    def _note_recorded(self, prefix: str) -> None:
        self._recorded.append(prefix)
        self._noted += 1
