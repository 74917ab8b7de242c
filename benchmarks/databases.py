"""A temporary PostgreSQL database for one benchmark, on the server given by INTFF_TEST_DATABASE_URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

_SERVER = os.environ.get("INTFF_TEST_DATABASE_URL", "postgresql+psycopg://root@127.0.0.1:5432/test")


@contextmanager
def new_database() -> Iterator[str]:
    """Create an empty database, yield its URL, and drop it at the end."""
    name = sql.Identifier(f"intff_benchmark_{os.getpid()}")
    with psycopg.connect(plain(_SERVER), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield make_url(_SERVER).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def plain(url: str) -> str:
    """The URL in the form that the driver itself accepts."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
