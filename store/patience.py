"""A PostgreSQL connection that gives up on a server which accepts what it is sent and never answers."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg

STATEMENT_SECONDS = 10
"""After which the server itself ends a statement: it is stuck, and the caller is better off with an error."""
PATIENCE_SECONDS = STATEMENT_SECONDS + 2.0


class PatientConnection(psycopg.Connection[Any]):
    """Waits for each answer a limited time.

    The server's own time-outs need a server that runs; TCP's need a kernel that is gone. A server
    that is frozen (its disk hangs, its host is paused) has neither, and the driver waits for ever.
    """

    patience: float = PATIENCE_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
        """Wait for what the driver wants, and close the connection when that takes too long."""
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, waiting: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = monotonic() + self.patience
        ready = None
        while True:
            try:
                wanted = waiting.send(ready)
            except StopIteration as end:
                return end.value
            # Several times a second the driver comes back with nothing, to let Ctrl-C through.
            ready = yield wanted
            if not ready and monotonic() > deadline:
                self.pgconn.finish()
                message = f"the database did not answer within {self.patience:g} s"
                raise psycopg.OperationalError(message)
