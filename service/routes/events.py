"""A job's events as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response, status
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from service.dependencies import SIGNED_IN, CallerDep, JobIdDep, PartsDep
from service.problems import documented
from service.watcher import Change, Mailbox, Place
from store import queries

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], **SIGNED_IN)

_KEEP_ALIVE_SECONDS = 10.0  # proxies drop a connection that is silent for half a minute or more
_KEEP_ALIVE = format_sse_event(comment="still here")
_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,18})")

_EXAMPLE = """\
event: status
data: {"id": "job_06f2k4m8", "object": "job", "status": "running", "is_terminal": false}
id: 0-0

event: metrics
data: {"epoch": 1, "seconds": 2.5, "loss": 0.693, "validation_accuracy": 0.912}
id: 1-0

event: progress
data: {"epoch": 2, "epochs": 20, "fraction": 0.05, "eta_seconds": 47.5}
id: 1-7

"""

_EVENT = {
    "type": "object",
    "description": "One event of the stream.",  # OpenAPI 3.1 has no word for a stream's items
    "required": ["event", "data", "id"],
    "properties": {
        "event": {"type": "string", "enum": ["status", "progress", "metrics"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "pattern": f"^{_ID.pattern}$"},
    },
}


class EventStream(StreamingResponse):
    """A stream of serialized events; FastAPI's EventSourceResponse would serialize them itself, from a generator."""

    media_type = "text/event-stream"


async def _mailbox(
    job_id: JobIdDep,
    parts: PartsDep,
    caller: CallerDep,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event received; the stream resumes after it.")
    ] = None,
) -> AsyncIterator[Mailbox | None]:
    """The stream's mailbox; None if the client has already received the job's last event."""

    def read() -> tuple[int, bool]:
        with parts.read_sessions() as session:
            row = queries.get_job(session, job_id, owner=caller.owner)
            return row.revision, row.status.is_terminal

    with parts.stream_limit.hold(caller):
        revision, is_terminal = await asyncio.to_thread(read)
        place = _place(last_event_id)
        if is_terminal and place.revision == revision:
            yield None
            return
        with parts.watcher.watch(job_id, place) as mailbox, parts.metrics.event_streams.track_inprogress():
            yield mailbox


# Closed after the stream has ended, however it ends: a client that disconnects leaves nothing behind.
MailboxDep = Annotated[Mailbox | None, Depends(_mailbox)]


@router.get(
    "/{job_id}/events",  # noqa: FAST003 -- the id is read by the mailbox's dependency
    operation_id="watch_job",
    response_class=Response,  # else the whole stream would be documented next to its events
    response_description=(
        "Events `status` (the job), `progress` (its progress) and `metrics` (of one epoch), each with an `id`; "
        "the terminal status comes last."
    ),
    responses={
        200: {"content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}}},
        204: {"description": "The event with this Last-Event-ID was the last one: do not reconnect."},
        **documented("unauthorized", "rate_limited", "not_found", "internal_error", "unavailable"),
    },
)
async def watch_job(mailbox: MailboxDep, caller: CallerDep, parts: PartsDep) -> Response:
    """Follow a job to its end. A client that reconnects resumes after its `Last-Event-ID`, without losing an epoch."""
    if mailbox is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    async def stream() -> AsyncIterator[bytes]:
        teller = Teller(mailbox.began)
        # A client that reconnects with a revoked key gets a 401.
        while not parts.watcher.closing and parts.keyring.still_knows(caller):
            try:
                await asyncio.wait_for(mailbox.arrived.wait(), _KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield _KEEP_ALIVE
                continue
            if mailbox.is_gone:
                return  # a client that reconnects gets a 404
            change = mailbox.take()
            if change is None:
                continue
            for event in teller.events(change):
                if not parts.keyring.still_knows(caller):
                    return
                yield event
            if change.snapshot.status.is_terminal:
                return

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second is for nginx
    return EventStream(stream(), headers=headers)


class Teller:
    """Turns changes into events. An event's id is `epoch-revision`: where a new connection has to resume.

    Only the last event of a change carries the new revision, so that after a connection breaks between
    two of them, the rest is sent again; each epoch is sent once, whatever breaks.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._told_status = ""
        self._told_progress = ""

    def events(self, change: Change) -> Iterator[bytes]:
        """The events for a change, in order, each serialized only when it is requested."""
        snapshot = change.snapshot
        told: list[tuple[str, str, int]] = []  # kind, data, the last epoch sent by then
        epoch = self._place.epoch
        has_status = snapshot.unhurried != self._told_status
        if has_status and not snapshot.status.is_terminal:
            told.append(("status", snapshot.job, epoch))
        for row in change.epochs:
            epoch = row.epoch
            told.append(("metrics", row.metrics, epoch))
        if snapshot.progress != self._told_progress:
            told.append(("progress", snapshot.progress, epoch))
        if has_status and snapshot.status.is_terminal:
            told.append(("status", snapshot.job, epoch))
        before = self._place.revision
        self._told_status, self._told_progress = snapshot.unhurried, snapshot.progress
        self._place = Place(epoch, snapshot.revision)
        last = len(told) - 1
        for position, (kind, data, seen) in enumerate(told):
            revision = snapshot.revision if position == last else before
            yield format_sse_event(event=kind, data_str=data, id=f"{seen}-{revision}")


def _place(last_event_id: str | None) -> Place:
    """The place that an event id stands for; an id that is not ours starts from the beginning."""
    found = _ID.fullmatch(last_event_id or "")
    return Place(int(found[1]), int(found[2])) if found else Place()
