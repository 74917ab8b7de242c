"""An attempt's exchange with the database: a thread that renews the lease, writes reports and reads stop requests."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Self, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from store.attempts import Claim, Orders, record_epochs, renew
from store.database import Sessions
from worker.shutdown import StopRequest

log = structlog.get_logger("intff.lease")

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""The errors of a database that cannot be reached, or not now; any other is a bug and is raised."""

Write = Callable[[Session], bool]
"""One fenced write of the attempt; returns whether the job was still the attempt's own."""


Kept = TypeVar("Kept")

AT_ONCE = 200
"""Reports per transaction, which locks the job's row and renews the lease: after minutes without the database,
thousands of reports are waiting, and on a busy machine writing them all takes longer than a lease."""

LAST_PATIENCE = 5.0
"""Seconds that a worker which was told to stop waits for an unreachable database."""


class Halt(StrEnum):
    """Why an attempt stops before the training is over."""

    CANCEL = "cancel"
    """The job was cancelled."""
    PAUSE = "pause"
    """The job was paused."""
    LOST = "lost"
    """The claim is lost: another attempt may be running, so nothing more is written."""
    STOP = "stop"
    """The worker was told to stop; the job goes back into the queue."""


class _Epoch(NamedTuple):
    """The metrics of an epoch."""

    metrics: dict[str, Any]


class _Other(NamedTuple):
    """Any other report, and what to call after its commit."""

    write: Write
    then: Callable[[], None]


class Halted(Exception):
    """The attempt was told to stop."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(halt.value)
        self.halt = halt


class Lease(threading.Thread):
    """Keeps a claim alive on its own schedule, while the training runs in the main thread.

    Everything the training reports goes through this thread, in order. While the database is unreachable,
    the reports wait here, but the training does not.

    Args:
        sessions: makes database sessions.
        claim: the job, and the fencing token of all writes.
        stop: whether the worker should stop.
        interval: seconds between two renewals.
        end_process: called when the main thread hangs: it has not obeyed a request for the length of a lease.
    """

    def __init__(
        self,
        sessions: Sessions,
        claim: Claim,
        stop: StopRequest,
        interval: float = 1.0,
        end_process: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(name=f"lease-{claim.job_id}", daemon=True)
        self.progress: dict[str, Any] | None = None
        self.halt: Halt | None = None
        self._sessions = sessions
        self._claim = claim
        self._request = stop
        self._interval = interval
        self._end_process = end_process
        self._ordered_at: float | None = None
        self._has_obeyed = False
        self._over = threading.Event()
        self._reports: deque[_Epoch | _Other] = deque()
        self._talking = threading.Lock()
        self._away_since: float | None = None
        self._mistake: Exception | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def report_epoch(self, metrics: dict[str, Any], progress: dict[str, Any]) -> None:
        """Queue an epoch's metrics for writing, after everything reported before, and update the progress at once."""
        self.progress = progress
        self._reports.append(_Epoch(metrics))

    def report(self, write: Write, then: Callable[[], None] = lambda: None) -> None:
        """Queue another write, after everything reported before; `then` is called after its commit."""
        self._reports.append(_Other(write, then))

    def settle(self, write: Callable[[Session], Kept]) -> Kept | None:
        """Write the attempt's end, after everything that was reported, waiting while the database is unreachable.

        Returns:
            What `write` returns, or None if the claim is lost or the worker must not wait any longer.
        """
        self._over.set()

        def conclude() -> Kept | None:
            with self._talking:
                self._renew_and_deliver()
                return None if self.halt is Halt.LOST else self._within(write)

        return self._patiently(conclude)

    def ask(self, read: Callable[[Session], Kept]) -> Kept | None:
        """Read something, waiting while the database is unreachable, as `settle` does."""
        return self._patiently(lambda: self._within(read))

    @property
    def is_ordered(self) -> bool:
        """Whether there is a pending request that the attempt has to obey."""
        return self.halt is not None or self._request.asked

    def obey(self) -> None:
        """Raise the pending request, if there is one.

        Raises:
            Halted: the attempt has to stop now.
        """
        if self._mistake is not None:
            raise self._mistake
        if self.halt is not None:
            self._has_obeyed = True
            raise Halted(self.halt)
        if self._request.asked:
            raise Halted(Halt.STOP)

    def run(self) -> None:
        """Renew until the attempt is over or its claim is lost, and make sure that requests are obeyed."""
        while not self._over.wait(self._interval):
            if self.halt is not Halt.LOST and not self._talk():
                return
            self._require_obedience()

    def _talk(self) -> bool:
        """Renew and deliver once; False after an unexpected error, which fails the attempt."""
        with self._talking:
            try:
                self._renew_and_deliver()
            except DATABASE_AWAY as error:
                self._note_away(error)
            except Exception as error:  # noqa: BLE001 - handed to the main thread, which fails the attempt with it
                self._mistake = error
                return False
            else:
                self._note_back()
        return True

    def _require_obedience(self) -> None:
        """End a process whose main thread hangs, but only if its job was cancelled or lost, so that no work is lost."""
        if self._has_obeyed or self.halt not in {Halt.CANCEL, Halt.LOST}:
            self._ordered_at = None
        elif self._ordered_at is None:
            self._ordered_at = time.monotonic()
        elif time.monotonic() - self._ordered_at > self._claim.lease_seconds:
            log.error("hung", halt=self.halt, seconds=self._claim.lease_seconds)
            self._end_process()

    def _patiently(self, talk: Callable[[], Kept | None]) -> Kept | None:
        pause = 0.1
        while True:
            try:
                return talk()
            except DATABASE_AWAY as error:
                self._note_away(error)
            if self._request.seconds_ago > LAST_PATIENCE:
                return None
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _within(self, talk: Callable[[Session], Kept]) -> Kept:
        with self._sessions.begin() as session:
            return talk(session)

    def _renew_and_deliver(self) -> None:
        """Renew the lease, and write everything that was reported; each transaction of reports renews the lease too."""
        while True:
            batch = list(self._reports)[:AT_ONCE]  # a copy in one step, because the training appends meanwhile
            try:
                orders = self._within(partial(self._write, batch=batch))
            except DATABASE_AWAY as error:
                if batch and _answered(error):  # only the metrics table may be locked, and not the jobs table
                    self.halt = _halt(self._within(partial(self._write, batch=[])))
                raise
            except Exception:
                # What cannot be written now never can be, and must not block the attempt's final write.
                self._reports.clear()
                raise
            self.halt = _halt(orders)
            if self.halt is Halt.LOST:
                return
            for report in batch:
                self._reports.popleft()
                if isinstance(report, _Other):
                    report.then()
            if not self._reports:
                return

    def _write(self, session: Session, *, batch: list[_Epoch | _Other]) -> Orders | None:
        """Write reports in order, consecutive epochs together, and renew; None if the claim is lost."""
        orders: Orders | None = None
        for _, group in groupby(batch, type):
            reports = list(group)
            epochs = [each for each in reports if isinstance(each, _Epoch)]
            if epochs:
                orders = record_epochs(session, self._claim, [each.metrics for each in epochs], self.progress)
                if orders is None:
                    return None
            if not all(each.write(session) for each in reports if isinstance(each, _Other)):
                return None
        return orders or renew(session, self._claim, self.progress)

    def _note_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("database_away", error=str(error).splitlines()[0])

    def _note_back(self) -> None:
        if self._away_since is not None:
            log.info("database_back", seconds=round(time.monotonic() - self._away_since, 1), waiting=len(self._reports))
            self._away_since = None


def _answered(error: Exception) -> bool:
    """Whether the server itself refused, as PostgreSQL's error code shows, and not the connection to it."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) is not None


def _halt(orders: Orders | None) -> Halt | None:
    """What the orders mean; also None for a request that was withdrawn before the attempt obeyed it."""
    if orders is None:
        return Halt.LOST
    if orders.cancel:
        return Halt.CANCEL
    return Halt.PAUSE if orders.pause else None
