"""The states of a job, each with its one-line meaning."""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    """Waiting for a worker."""
    RUNNING = "running"
    """Claimed by a worker, which holds a lease on it."""
    PAUSED = "paused"
    """Stopped on request; it continues from its last checkpoint when resumed."""
    SUCCEEDED = "succeeded"
    """Finished, and its model is published."""
    FAILED = "failed"
    """Finished with an error."""
    CANCELLED = "cancelled"
    """Stopped on request, permanently."""

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
UNFINISHED = frozenset(JobStatus) - TERMINAL


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    """It published the job's model."""
    FAILED = "failed"
    """It hit an error that another attempt would hit again."""
    CANCELLED = "cancelled"
    """It stopped because the job was cancelled."""
    PAUSED = "paused"
    """It stopped because the job was paused."""
    HANDED_BACK = "handed_back"
    """Its worker was told to stop and put the job back into the queue."""
    LOST = "lost"
    """Its worker went silent and the lease expired."""
