"""One poller for all watched jobs: it reads what changed and puts it into each event stream's mailbox.

No stream holds a connection or a session. A tick asks for the revisions of every watched job in one
query, in a thread, and reads only the jobs whose revision has moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import structlog
from sqlalchemy.orm import Session

from service.schemas.jobs import EpochMetrics
from service.snapshots import job_of
from store import queries
from store.database import Sessions
from store.errors import NotFound
from store.statuses import JobStatus

log = structlog.get_logger("intff.watcher")

_TICK_SECONDS = 0.25
_BACK_OFF_SECONDS = 2.0  # after a failed read: a database that is down is not asked four times a second
_WAITING_SECONDS = 1.0  # how old the information on which queues have workers may be


@dataclass(frozen=True)
class Place:
    """How far a stream has got: the last epoch sent, and the last revision sent in full; 0 means none."""

    epoch: int = 0
    revision: int = 0


@dataclass(frozen=True)
class Snapshot:
    """A job as it was at one revision, serialized once for all of its streams."""

    revision: int
    status: JobStatus
    job: str
    progress: str
    unhurried: str
    """The job without its constantly changing fields; when this differs, a `status` event is due."""


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch, as JSON."""

    epoch: int
    metrics: str


@dataclass(frozen=True)
class Change:
    """The newest state of a job, and the epochs that its stream has not sent yet."""

    snapshot: Snapshot
    epochs: tuple[Epoch, ...]


@dataclass(eq=False)
class Mailbox:
    """What one stream has yet to send; a slow reader gets only the newest state, but every epoch."""

    job_id: str
    began: Place
    """Where the stream resumes."""
    queued: bool = False
    is_gone: bool = False
    """Whether the job is no longer in the database, for example after restoring an older backup."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _change: Change | None = None

    def __post_init__(self) -> None:
        self.place = self.began
        """How far this mailbox has been filled."""

    def put(self, snapshot: Snapshot, epochs: tuple[Epoch, ...]) -> None:
        """Merge a newer state of the job into what has not been taken yet."""
        fresh = tuple(each for each in epochs if each.epoch > self.place.epoch)
        untold = self._change.epochs if self._change else ()
        self.place = Place(fresh[-1].epoch if fresh else self.place.epoch, snapshot.revision)
        self.queued = snapshot.status == JobStatus.QUEUED
        self._change = Change(snapshot, untold + fresh)
        self.arrived.set()

    def end(self) -> None:
        """Signal that the job no longer exists."""
        self.is_gone = True
        self.arrived.set()

    def take(self) -> Change | None:
        """What has arrived since the last call."""
        change, self._change = self._change, None
        self.arrived.clear()
        return change


class Watcher:
    """Feeds the mailboxes of one API process.

    Args:
        sessions: the way to the database.
        heard_of: called with a job's model before any stream tells of it; None while it has none.
    """

    def __init__(self, sessions: Sessions, heard_of: Callable[[str | None], None]) -> None:
        self.closing = False
        """Set when the process is asked to stop: streams end, so that the server can."""
        self._sessions = sessions
        self._heard_of = heard_of
        self._mailboxes: set[Mailbox] = set()
        self._wanted = asyncio.Event()
        self._live_queues: frozenset[str] = frozenset()
        self._queues_until = 0.0

    @contextmanager
    def watch(self, job_id: str, place: Place) -> Iterator[Mailbox]:
        """Open a mailbox for one stream; what it has missed arrives at once."""
        mailbox = Mailbox(job_id, place)
        self._mailboxes.add(mailbox)
        self._wanted.set()
        try:
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)

    def close(self) -> None:
        """End every stream; clients reconnect to the next process with their Last-Event-ID."""
        self.closing = True
        for mailbox in self._mailboxes:
            mailbox.arrived.set()

    async def run(self) -> None:
        """Poll for as long as the process lives."""
        failing = False
        while True:
            if not self._mailboxes:
                await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._tick()
                failing = False
            except Exception:
                if not failing:
                    log.exception("watcher_failed")
                failing = True
            await self._pause(_BACK_OFF_SECONDS if failing else _TICK_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wanted.wait(), seconds)
        except TimeoutError:
            return

    async def _tick(self) -> None:
        mailboxes = tuple(self._mailboxes)
        changes = await asyncio.to_thread(self._read, mailboxes)
        for mailbox in mailboxes:
            if mailbox.job_id not in changes:
                continue
            change = changes[mailbox.job_id]
            if change is None:
                mailbox.end()
            else:
                mailbox.put(*change)

    def _read(self, mailboxes: tuple[Mailbox, ...]) -> dict[str, tuple[Snapshot, tuple[Epoch, ...]] | None]:
        """What has changed, by job; None for a job that is no longer there."""
        by_job: dict[str, list[Mailbox]] = {}
        for mailbox in mailboxes:
            by_job.setdefault(mailbox.job_id, []).append(mailbox)
        with self._sessions() as session:
            revisions = queries.revisions(session, by_job.keys())
            queues_changed = self._queues_changed(session)
            changes: dict[str, tuple[Snapshot, tuple[Epoch, ...]] | None] = {}
            for job_id, watching in by_job.items():
                has_moved = any(mailbox.place.revision != revisions.get(job_id) for mailbox in watching)
                if not has_moved and not (queues_changed and any(mailbox.queued for mailbox in watching)):
                    continue
                try:
                    changes[job_id] = self._read_job(session, watching)
                except NotFound:
                    changes[job_id] = None
                except (ValueError, LookupError, TypeError):  # a malformed row must not affect other jobs
                    log.exception("job_unreadable", job=job_id)
                    for mailbox in watching:  # skip it until it changes again
                        mailbox.place = Place(mailbox.place.epoch, revisions.get(job_id, 0))
            return changes

    def _read_job(self, session: Session, watching: list[Mailbox]) -> tuple[Snapshot, tuple[Epoch, ...]]:
        job_id = watching[0].job_id
        # Read the row first: a terminal job is then always read with all of its epochs.
        row = queries.get_job(session, job_id, owner=None)
        self._heard_of(row.model_id)
        job = job_of(row, self._live_queues)
        snapshot = Snapshot(
            revision=row.revision,
            status=job.status,
            job=job.model_dump_json(),
            progress=job.progress.model_dump_json(),
            unhurried=job.model_dump_json(exclude={"progress", "latest_metrics"}),
        )
        told = min(mailbox.place.epoch for mailbox in watching)
        rows = queries.list_metrics(session, job_id, owner=None, after=told)
        epochs = map(EpochMetrics.model_validate, rows)
        return snapshot, tuple(Epoch(each.epoch, each.model_dump_json()) for each in epochs)

    def _queues_changed(self, session: Session) -> bool:
        if monotonic() < self._queues_until:
            return False
        before, self._live_queues = self._live_queues, frozenset(queries.live_queues(session))
        self._queues_until = monotonic() + _WAITING_SECONDS
        return self._live_queues != before
