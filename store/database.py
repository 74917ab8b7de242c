"""Connecting to SQLite or PostgreSQL, with what each needs so that many processes can share it safely."""

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
_BUSY_SECONDS = 30  # SQLite's writers wait for each other; each holds the lock for milliseconds

# A worker that freezes inside a transaction loses its locks before its lease expires.
_POSTGRESQL_OPTIONS = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={STATEMENT_SECONDS}s "
    "-c idle_in_transaction_session_timeout=10s"
)
_POSTGRESQL = {
    "connect_timeout": 5,
    "application_name": "intff",
    "options": _POSTGRESQL_OPTIONS,
    # A vanished host is noticed within half a minute, not after two hours, even while only waiting for data.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def connect(url: str) -> Engine:
    """Create an engine; no connection is opened before its first use, but SQLite's folder is created.

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
            isolation_level="READ COMMITTED",  # conditional updates re-check a row that they waited for
            pool_pre_ping=True,
            pool_timeout=10,
            json_serializer=write_json,
        )
        event.listen(engine, "do_connect", _connect_patiently)
        event.listen(engine, "handle_error", _name_lost_connection)
        return engine
    msg = f"the database must be SQLite (sqlite:///FILE) or PostgreSQL (postgresql://...), got {parsed.drivername!r}"
    raise SettingsError(msg)


def sessions(engine: Engine) -> Sessions:
    """Sessions that write; their rows stay readable after the commit."""
    return Sessions(engine, expire_on_commit=False)


def read_sessions(engine: Engine) -> Sessions:
    """Sessions that only read: on SQLite they do not wait for writers."""
    return Sessions(engine.execution_options(read_only=True, **_read_only(engine)), expire_on_commit=False)


def write_json(value: object) -> str:
    """JSON that both databases accept: NaN and infinity, which JSON lacks, become null."""
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
    """Turn every lost connection into an OperationalError, which callers retry.

    The driver raises an internal error if the server ended an idle transaction, as happens to a worker that was
    frozen in the middle of one, and if the server does not accept writes for now, as a standby.
    """
    if getattr(context.original_exception, "sqlstate", None) == _TAKES_NO_WRITES:
        context.is_disconnect = True  # the next connection may reach a server that accepts them
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
    connection.isolation_level = None  # transactions begin in _begin_sqlite, not where the driver guesses
    connection.execute("PRAGMA foreign_keys = ON")
    _use_write_ahead_log(connection)
    # FULL, not NORMAL: an accepted job survives a power cut, at the price of one fsync per commit.
    connection.execute("PRAGMA synchronous = FULL")
    # In KiB. The system caches the file's pages anyway, once for all connections; the default of 2 MiB each adds up.
    connection.execute("PRAGMA cache_size = -256")


def _use_write_ahead_log(connection: Any) -> None:  # noqa: ANN401 -- the driver's own connection
    """Switch to WAL mode, in which readers and the writer do not block each other; the file keeps the setting.

    If another process is just opening the file, SQLite refuses to change the mode at once instead of
    waiting, so the waiting is done here.
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
    # A transaction that reads first and writes later can fail midway if another one wrote in
    # between; taking the write lock at the beginning makes it wait instead.
    read_only = bool(connection.get_execution_options().get("read_only"))
    connection.exec_driver_sql(f"PRAGMA query_only = {read_only}")
    connection.exec_driver_sql("BEGIN DEFERRED" if read_only else "BEGIN IMMEDIATE")
