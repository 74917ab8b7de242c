"""Connections are set up so that many processes can share one database."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from intff.spec import read_spec
from store.database import Sessions, connect, read_sessions, sessions
from store.errors import SettingsError
from store.jobs import submit

SPEC = read_spec({"dataset": "digits"})


def test_sqlite_is_set_up_for_many_processes_and_power_cuts(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/new/folder/intff.db")
    with engine.connect() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        answers = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in asked]
    assert answers == ["wal", 2, 1, 30_000]
    engine.dispose()


def test_postgresql_may_be_named_without_its_driver() -> None:
    engine = connect("postgresql://somebody@127.0.0.1/intff")
    assert engine.dialect.driver == "psycopg"


@pytest.mark.parametrize("url", ["mysql://localhost/x", "mssql://localhost/x"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"SQLite .* or PostgreSQL"):
        connect(url)


def test_a_session_that_reads_cannot_write(engine: Engine) -> None:
    with read_sessions(engine)() as session, pytest.raises(DBAPIError, match=r"read-?only"):
        submit(session, SPEC)


def test_on_sqlite_a_writer_waits_for_another_instead_of_failing(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/intff.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (written REAL)"))
    begun = threading.Event()

    def write_slowly() -> None:
        with engine.begin() as connection:
            begun.set()
            time.sleep(0.3)
            connection.execute(text("INSERT INTO notes VALUES (1)"))

    slow = threading.Thread(target=write_slowly)
    slow.start()
    begun.wait()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar_one() == 1
        connection.execute(text("INSERT INTO notes VALUES (2)"))
    slow.join()
    engine.dispose()


def test_rows_stay_readable_after_the_commit(db: Sessions) -> None:
    with db.begin() as session:
        job = submit(session, SPEC, name="n")
    assert (job.name, job.status) == ("n", "queued")


def test_a_database_that_is_not_there_is_told_in_a_bounded_time() -> None:
    engine = connect("postgresql://somebody@127.0.0.1:1/intff")
    begun = time.monotonic()
    with pytest.raises(OperationalError), sessions(engine)() as session:
        session.execute(text("SELECT 1"))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("next_step", ["statement", "commit"])
def test_a_transaction_that_froze_ends_as_a_lost_connection_and_the_next_one_works(
    db: Sessions, next_step: str
) -> None:
    with db() as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
        time.sleep(0.5)
        with pytest.raises(OperationalError, match="idle-in-transaction"):
            session.execute(text("SELECT 1")) if next_step == "statement" else session.commit()
    with db() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_takes_no_writes_for_now_is_one_that_is_away(db: Sessions) -> None:
    """As a standby, or a server whose owner has made it so: the next connection may lead to one that does."""
    with db() as session:
        session.execute(text("SET TRANSACTION READ ONLY"))
        with pytest.raises(OperationalError, match="read-only transaction") as away:
            session.execute(text("DELETE FROM workers"))
    assert away.value.connection_invalidated
    with db.begin() as session:
        session.execute(text("DELETE FROM workers"))
