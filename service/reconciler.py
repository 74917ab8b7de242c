"""A thread of every API process that puts lost jobs back into the queue and publishes those nobody has claimed.

Any number of processes may do this at once; the store's conditional updates make that harmless.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from math import inf
from time import monotonic

import structlog
from sqlalchemy.orm import Session

from service.metrics import Metrics
from service.publishing import Publisher
from store.clock import database_time
from store.database import Sessions
from store.queries import sweep
from store.settings import Settings

log = structlog.get_logger("intff.reconciler")

_LONGEST_PAUSE = 10.0  # seconds between tries while the database or the broker is down; jobs wait for the next one
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # no lease expired before this
_STALLED_SECONDS = 1.0  # a database that takes longer to tell its time has stalled; milliseconds are usual
_SLOW_LEASES = 4  # within this many leases, a live worker renews its own even with a slow database


class Reconciler:
    """Sweeps until it is stopped; an outage of the database or the broker only slows it down."""

    def __init__(self, sessions: Sessions, publisher: Publisher, settings: Settings, metrics: Metrics) -> None:
        self._sessions = sessions
        self._publisher = publisher
        self._settings = settings
        self._metrics = metrics
        self._stopping = threading.Event()
        self._failures = 0
        self._was_away = False
        self._spare_until = -inf
        self._looked: datetime | None = None
        self._pause = settings.sweep_seconds
        self._answering_since = monotonic()
        self._good = _NEVER
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start, with an immediate first sweep: lost jobs are most likely after a restart."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current sweep."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def sweep_once(self) -> bool:
        """Settle lost jobs and publish waiting ones, once.

        Returns:
            Whether the broker accepted everything.
        """
        with self._sessions.begin() as session:
            swept = sweep(
                session,
                max_attempts=self._settings.max_attempts,
                republish_seconds=self._settings.republish_seconds,
                as_of=self._last_good_moment(session),
            )
        for action in ("requeued", "failed", "cancelled", "paused"):
            settled: list[str] = getattr(swept, action)
            self._metrics.saw_reconciled(action, len(settled))
            for job in settled:
                log.info("job_reconciled", job=job, action=action)
        taken = self._publisher.publish_all(swept.to_publish)
        if taken:
            self._metrics.saw_reconciled("published", len(swept.to_publish))
        return taken

    def _last_good_moment(self, session: Session) -> datetime:
        """The time before which a lease must have expired for its worker to count as lost.

        Normally that is now. After an outage of the database, or a pause of this process, it is the moment before
        that: no worker could renew its lease meanwhile, and live ones are given time to do so. A database that is
        merely slow, for however long, does not protect lost workers for ever.
        """
        asked = monotonic()
        now = database_time(session)
        lease = self._settings.lease_seconds
        stood_still = self._looked is not None and now - self._looked > timedelta(seconds=self._pause + lease)
        if self._was_away or stood_still:
            self._answering_since = monotonic()
        if self._was_away or stood_still or monotonic() - asked > _STALLED_SECONDS:
            self._spare_until = monotonic() + lease
        self._was_away = False
        self._looked = now
        if monotonic() >= self._spare_until:
            self._good = now
        elif monotonic() - self._answering_since > _SLOW_LEASES * lease:
            self._good = max(self._good, now - timedelta(seconds=_SLOW_LEASES * lease))
        return self._good

    def _run(self) -> None:
        while True:
            self._note(self._try())
            sweep_seconds = self._settings.sweep_seconds
            self._pause = min(sweep_seconds * 2**self._failures, max(_LONGEST_PAUSE, sweep_seconds))
            if self._stopping.wait(self._pause):
                return

    def _try(self) -> bool:
        try:
            return self.sweep_once()
        except Exception as error:  # whatever it is, the next sweep may work, and this thread must not end
            self._was_away = True
            if not self._failures:
                log.exception("sweep_failed", error=str(error))
            return False

    def _note(self, worked: bool) -> None:
        if worked and self._failures:
            log.info("sweep_recovered")
        self._failures = 0 if worked else min(self._failures + 1, 6)
