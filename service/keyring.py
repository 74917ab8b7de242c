"""The API keys that one process accepts: those in its settings, and those in the database, which it keeps polling."""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from service.auth import IN_THIS_PROCESS, Caller, Way, caller_of
from service.errors import Unauthorized, Unavailable
from store import queries
from store.database import Sessions
from store.queries import KnownKeys
from store.settings import Settings

log = structlog.get_logger("intff.keys")

_READ_SECONDS = 0.5  # how long a revoked key still works, and a new one does not yet
_NOTE_SECONDS = 20.0  # between two updates of which keys were used
_STALE_SECONDS = 30.0  # how long the last read stays valid while the database is unreachable


class Keyring:
    """Checks keys without asking the database; `read` must be called before the first check."""

    def __init__(self, settings: Settings, sessions: Sessions, read_sessions: Sessions) -> None:
        self._configured = {digest: digest for digest in settings.api_keys}
        self._sessions = sessions
        self._read_sessions = read_sessions
        self._known = KnownKeys({}, has_any=False)
        self._owners: dict[str, str] = dict(self._configured)
        self._read_at = 0.0
        self._used: set[str] = set()
        self._note_at = monotonic() + _NOTE_SECONDS

    @property
    def is_open(self) -> bool:
        """Whether there has never been a key, so that none is required."""
        return not self._configured and not self._known.has_any

    def caller_of(self, authorization: str | None, way: Way = IN_THIS_PROCESS) -> Caller:
        """Check a request's Authorization header.

        Raises:
            Unauthorized: it carries no valid key.
            Unavailable: only the database could know its key, and has been unreachable for too long.
        """
        if self.is_open:
            return caller_of(authorization, None, way)
        if monotonic() - self._read_at <= _STALE_SECONDS:
            caller = caller_of(authorization, self._owners)
        else:
            caller = self._configured_caller(authorization)
        if caller.key is not None and caller.key in self._known.owners:
            self._used.add(caller.key)
        return caller

    def still_knows(self, caller: Caller) -> bool:
        """Whether an accepted caller would still be accepted, according to the last read.

        However old that read is: while the database is unreachable, only callers known to be revoked are refused.
        """
        return self.is_open if caller.key is None else caller.key in self._owners

    def read(self) -> None:
        """Read the keys from the database, and record there which were used."""
        began = monotonic()
        with self._read_sessions() as session:
            known = queries.known_keys(session)
        self._known, self._owners, self._read_at = known, known.owners | self._configured, began
        if self._used and began >= self._note_at:
            used, self._used = self._used, set()
            self._note_at = began + _NOTE_SECONDS
            with self._sessions.begin() as session:
                queries.note_use(session, used)

    async def run(self) -> None:
        """Keep re-reading for as long as the process lives."""
        failing = False
        while True:
            await asyncio.sleep(_READ_SECONDS)
            try:
                await asyncio.to_thread(self.read)
                failing = False
            except Exception:
                if not failing:
                    log.exception("keys_not_read")
                failing = True

    def _configured_caller(self, authorization: str | None) -> Caller:
        try:
            return caller_of(authorization, self._configured)
        except Unauthorized as error:
            msg = "the database with the API keys cannot be reached; try again"
            raise Unavailable(msg) from error
