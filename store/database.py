"""The connection to SQLite or PostgreSQL: what each needs so that many processes can share it safely."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from store.errors import SettingsError
from store.patience import STATEMENT_SECONDS, PatientConnection
from store.schema import downgrade, is_current, upgrade

__all__ = [
    "Sessions",
    "connect",
    "downgrade",
    "is_current",
    "read_sessions",
    "sessions",
    "upgrade",
    "write_json",
]

Sessions = sessionmaker[Session]
"""Makes sessions: `with sessions.begin() as session:` commits at its end, or rolls back."""

_TAKES_NO_WRITES = "25006"  # PostgreSQL's read_only_sql_transaction
_BUSY_SECONDS = 30  # writers of SQLite wait in line; each holds the file for milliseconds

# A worker that freezes inside a transaction loses its locks before anybody waits for its lease.
_POSTGRESQL_OPTIONS = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={STATEMENT_SECONDS}s "
    "-c idle_in_transaction_session_timeout=10s"
)
_POSTGRESQL = {
    "connect_timeout": 5,
    "application_name": "intff",
    "options": _POSTGRESQL_OPTIONS,
    # A host that vanished without a word is noticed in half a minute, not in two hours, also by who listens.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connect(url: str) -> Engine:
    """Prepare an engine; nothing is opened before its first use, except that SQLite's folder is made.

    Raises:
        SettingsError: the URL names neither SQLite nor PostgreSQL.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            connect_args=_POSTGRESQL,
            isolation_level="READ COMMITTED",  # conditional updates look again at a row they waited for
            pool_pre_ping=True,
            pool_timeout=10,
            json_serializer=write_json,
        )
        event.listen(engine, "do_connect", _connect_patiently)
        event.listen(engine, "handle_error", _name_lost_connection)
        return engine
    msg = f"the database is SQLite (sqlite:///FILE) or PostgreSQL (postgresql://...), got {parsed.drivername!r}"
    raise SettingsError(msg)


def sessions(engine: Engine) -> Sessions:
    """Sessions that write; their rows stay readable after the commit."""
    return Sessions(engine, expire_on_commit=False)


def read_sessions(engine: Engine) -> Sessions:
    """Sessions that only read: on SQLite they do not wait in the writers' line."""
    return Sessions(engine.execution_options(read_only=True, **_read_only(engine)), expire_on_commit=False)


def write_json(value: object) -> str:
    """JSON as both databases take it: NaN and infinity, which JSON lacks, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:  # noqa: ANN401 -- any plain data
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _connect_patiently(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> object:
    return PatientConnection.connect(*arguments, **options)


def _name_lost_connection(context: ExceptionContext) -> None:
    """Let every lost connection be an OperationalError, as callers expect who try again.

    The driver calls it an internal error when the server ended a transaction that stood idle,
    which is what a worker meets that was frozen in the middle of one; and when it takes no writes for now,
    as a standby does.
    """
    if getattr(context.original_exception, "sqlstate", None) == _TAKES_NO_WRITES:
        context.is_disconnect = True  # the next connection may lead to one that does
    error = context.sqlalchemy_exception
    if context.is_disconnect and isinstance(error, DBAPIError) and not isinstance(error, OperationalError):
        raise OperationalError(
            error.statement, error.params, context.original_exception, connection_invalidated=True
        ) from context.original_exception


def _read_only(engine: Engine) -> dict[str, bool]:
    return {"postgresql_readonly": True} if engine.dialect.name == "postgresql" else {}


def _sqlite(url: URL) -> Engine:
    if url.database and not url.database.startswith((":", "file:")):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS}, json_serializer=write_json)
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 -- the driver's own connection
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    connection.execute("PRAGMA foreign_keys = ON")
    _use_write_ahead_log(connection)
    # FULL, not NORMAL: an accepted job is still there after a power cut, for one fsync at each commit.
    connection.execute("PRAGMA synchronous = FULL")
    # In KiB. The system keeps the file's pages anyway, once for all connections; 2 MiB in each made a process grow.
    connection.execute("PRAGMA cache_size = -256")


def _use_write_ahead_log(connection: Any) -> None:  # noqa: ANN401 -- the driver's own connection
    """Readers and the writer do not block each other; the file remembers it.

    Changing the mode is the one thing that SQLite refuses at once instead of waiting when
    another process is just opening the file, so waiting is done here.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later can fail in the middle when another one wrote
    # in between; taking the writer's place at its beginning makes it wait instead.
    read_only = bool(connection.get_execution_options().get("read_only"))
    connection.exec_driver_sql(f"PRAGMA query_only = {read_only}")
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")
