"""Finished runs on disk: one file each, named by a hash of the spec, so that no run is repeated."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intff.errors import IntffError, SpecError
from intff.spec import TrainSpec, read_spec


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: a result, or an error that would recur."""

    result: dict[str, Any] | None
    """The fields of `intff.progress.Result`."""
    metrics: list[dict[str, Any]]
    """The fields of `intff.progress.EpochMetrics` for each finished epoch."""
    error: dict[str, str] | None = None
    """`code` and `message`, for a run that diverged."""
    build: dict[str, Any] | None = None
    """The environment of the run: versions, device and threads."""


@dataclass(frozen=True)
class Record:
    """A finished run."""

    spec: TrainSpec
    outcome: Outcome


class RecordDamaged(IntffError):
    """A file among the records that this project did not write, or that was modified."""

    code = "record_damaged"


class Records:
    """The finished runs in a folder.

    A file contains the complete spec, and a run is looked up by the current meaning of its spec: a
    field added later, with a default that keeps the behaviour, leaves the records valid.

    Raises:
        RecordDamaged: a file in the folder is not a record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.foreign: list[Path] = []
        """Records whose specs this version of the project cannot read."""
        self._records: dict[str, Record] = {}
        for file in sorted(folder.glob("*.json")) if folder.exists() else ():
            record = _read(file)
            if record is None:
                self.foreign.append(file)
            else:
                self._records[key(record.spec)] = record

    @property
    def is_empty(self) -> bool:
        """Whether there is no finished run."""
        return not self._records

    def find(self, spec: TrainSpec) -> Record | None:
        """The finished run of exactly this spec, or None."""
        return self._records.get(key(spec))

    def seeds_of(self, spec: TrainSpec) -> Iterator[tuple[int, Record]]:
        """Yield all finished runs whose specs differ from this one at most in the seed, in the order of seeds."""
        seedless = _seedless(spec)
        alike = [record for record in self._records.values() if _seedless(record.spec) == seedless]
        for record in sorted(alike, key=lambda record: record.spec.training.seed):
            yield record.spec.training.seed, record

    def machines(self) -> list[str]:
        """The distinct devices of the runs, with threads; unknown for jobs of a service."""
        builds = [record.outcome.build or {} for record in self._records.values()]
        told = [f"{b['device']}, {b['threads']} thread{'s'[: b['threads'] > 1]}" for b in builds if "threads" in b]
        return sorted(set(told))

    def add(self, record: Record) -> None:
        """Save a finished run; its file is complete or absent even after a crash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"version": 1, "spec": record.spec.model_dump(mode="json"), **asdict(record.outcome)}
        descriptor, partial = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self.folder)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).chmod(0o644)  # mkstemp's 0600 would hide it from other users
            Path(partial).replace(self.folder / f"{key(record.spec)}.json")
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        self._records[key(record.spec)] = record


def key(spec: TrainSpec) -> str:
    """An identifier of a spec; equal specs have equal keys."""
    written = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def _seedless(spec: TrainSpec) -> TrainSpec:
    return spec.model_copy(update={"training": spec.training.model_copy(update={"seed": 0})})


def _read(file: Path) -> Record | None:
    try:
        content = json.loads(file.read_bytes())
        outcome = Outcome(content["result"], content["metrics"], content["error"], content["build"])
        written = content["spec"]
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{file} is not the record of a run ({error!r}); if you move it away, the run is repeated"
        raise RecordDamaged(msg) from error
    try:
        return Record(read_spec(written), outcome)
    except SpecError:
        return None
