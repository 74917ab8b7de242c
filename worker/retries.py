"""Retries while the artifact store does not answer: waiting costs less than training again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from store.errors import ArtifactCorrupt, ArtifactMissing, ArtifactsUnavailable
from worker.failures import is_disk_full
from worker.lease import Lease

log = structlog.get_logger("intff.retries")

Given = TypeVar("Given")


def retry(ask: Callable[[], Given], what: str, *, pauses: Sequence[float], lease: Lease) -> Given:
    """Call the artifact store, and retry after each pause.

    Args:
        ask: the call; may be made several times.
        what: a description for the log.
        pauses: seconds between the tries.
        lease: its stop requests are obeyed meanwhile.

    Raises:
        ArtifactsUnavailable: the last try failed as well.
        Halted: a stop request arrived.
        Exception: at once, for errors that waiting cannot fix: a full disk, or a missing or corrupt file.
    """
    left = iter(pauses)
    while True:
        try:
            return ask()
        except (ArtifactMissing, ArtifactCorrupt):
            raise
        except Exception as error:  # every kind of artifact store has its own errors
            if is_disk_full(error):
                raise
            pause = next(left, None)
            log.warning("artifacts_away", what=what, error=str(error), pause=pause)
            if pause is None:
                message = f"the artifact store did not answer for {sum(pauses):.0f} seconds; submit again once it does"
                raise ArtifactsUnavailable(message) from error
        until = time.monotonic() + pause
        while time.monotonic() < until:
            lease.obey()
            time.sleep(0.1)
