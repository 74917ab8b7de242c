"""A PostgreSQL connection that gives up on a server that accepts data but never answers."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any

import psycopg

STATEMENT_SECONDS = 10
"""After this, the server itself ends a statement: it is stuck, and the caller is better off with an error."""
PATIENCE_SECONDS = STATEMENT_SECONDS + 2.0


class PatientConnection(psycopg.Connection[Any]):
    """Waits only a limited time for each answer.

    The server's own timeouts need a running server, and TCP's only notice a kernel that is gone. If the
    server is frozen (its disk hangs, its host is paused), neither applies, and the driver waits forever.
    """

    patience: float = PATIENCE_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's own
        """Wait for the driver's result, and close the connection if that takes too long."""
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, waiting: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = monotonic() + self.patience
        ready = None
        while True:
            try:
                wanted = waiting.send(ready)
            except StopIteration as end:
                return end.value
            # Several times a second the driver yields without a result, to let Ctrl-C through.
            ready = yield wanted
            if not ready and monotonic() > deadline:
                self.pgconn.finish()
                message = f"the database did not answer within {self.patience:g} s"
                raise psycopg.OperationalError(message)
