"""Whether a worker on this host is alive; `python -m worker.health` is the health check of its container."""

from __future__ import annotations

import socket
import sys

from sqlalchemy.exc import SQLAlchemyError

from intff.errors import IntffError
from store.database import connect, sessions
from store.settings import read_settings
from store.workers import live_workers


def main() -> str | None:
    """What is wrong, or None; `sys.exit` turns it into the exit code."""
    host = socket.gethostname()
    try:
        engine = connect(read_settings().database_url)
        with sessions(engine)() as session:
            names = [worker.id for worker in live_workers(session)]
        engine.dispose()
    except (IntffError, SQLAlchemyError) as error:
        return f"the database cannot be queried: {error}"
    return None if any(name.endswith(f"@{host}") for name in names) else f"no live worker on {host} among {names}"


if __name__ == "__main__":
    sys.exit(main())
