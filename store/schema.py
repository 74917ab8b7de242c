"""Schema upgrades and downgrades with Alembic, run by the program itself, possibly in several processes at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from store.errors import SchemaUnknown
from store.patience import PATIENCE_SECONDS

_LOCK = 0x696E7466  # "intf": PostgreSQL's advisory locks are numbers, and this one is ours
_in_this_process = threading.Lock()  # Alembic keeps its context in module globals


def upgrade(engine: Engine) -> None:
    """Upgrade the schema to its newest revision; among several processes, one does it and the others wait.

    Raises:
        SchemaUnknown: it has a version that this program does not know.
    """
    with _alone(engine) as connection:
        try:
            command.upgrade(_config(connection), "head")
        except CommandError as error:
            message = f"the database was created by another version of this program; use that one to open it: {error}"
            raise SchemaUnknown(message) from error


def downgrade(engine: Engine, revision: str) -> None:
    """Downgrade the schema to a revision; `base` removes every table with its contents."""
    with _alone(engine) as connection:
        command.downgrade(_config(connection), revision)


def is_current(engine: Engine) -> bool:
    """Whether the schema is the one that this program uses."""
    with engine.connect() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == _heads()


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction for the whole change, holding a lock against other schema changes."""
    with _in_this_process, engine.connect() as connection:
        if connection.dialect.name != "postgresql":
            with _tables_may_be_replaced(connection), connection.begin():  # BEGIN IMMEDIATE is the lock
                yield connection
            return
        with _endlessly_patient(connection), connection.begin():
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection


@contextmanager
def _tables_may_be_replaced(connection: Connection) -> Iterator[None]:
    """Turn foreign keys off: SQLite changes a table by recreating it, which they would forbid or, worse, cascade.

    The pragma only works between transactions; inside one it is silently ignored.
    """
    driven: Any = connection.connection.driver_connection
    driven.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driven.execute("PRAGMA foreign_keys=ON")


@contextmanager
def _endlessly_patient(connection: Connection) -> Iterator[None]:
    """Wait without a limit: changing a large table may take minutes, and other processes wait for it."""
    driven: Any = connection.connection.driver_connection
    driven.patience = inf
    try:
        yield
    finally:
        driven.patience = PATIENCE_SECONDS


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@cache
def _heads() -> set[str]:
    return set(ScriptDirectory.from_config(_config()).get_heads())
