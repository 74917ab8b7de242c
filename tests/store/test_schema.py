"""The migrations make exactly the tables that the program uses, whoever runs them and however many do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import IntegrityError

from intff.spec import read_spec
from store import queries
from store.database import connect, downgrade, is_current, sessions, upgrade
from store.tables import Base, Job

_UPGRADE = """
import sys
from store.database import connect, upgrade
engine = connect(sys.argv[1])
upgrade(engine)
engine.dispose()
"""


@pytest.fixture
def bare(bare_database_url: str) -> Iterator[Engine]:
    engine = connect(bare_database_url)
    yield engine
    engine.dispose()


def test_the_migrated_schema_is_what_the_tables_say(bare: Engine) -> None:
    upgrade(bare)
    with bare.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_even_the_constraints_and_their_names_are_what_the_tables_say(bare: Engine) -> None:
    upgrade(bare)
    migrated = _described(bare)
    downgrade(bare, "base")
    Base.metadata.create_all(bare)
    assert _described(bare) == migrated


def test_an_empty_database_is_not_current_and_an_upgraded_one_is(bare: Engine) -> None:
    assert not is_current(bare)
    upgrade(bare)
    assert is_current(bare)
    upgrade(bare)
    assert is_current(bare)


def test_going_back_to_the_base_leaves_no_table(bare: Engine) -> None:
    upgrade(bare)
    downgrade(bare, "base")
    assert inspect(bare).get_table_names() == ["alembic_version"]
    assert not is_current(bare)
    upgrade(bare)
    assert is_current(bare)


def test_going_back_to_the_first_revision_and_forth_again_keeps_what_is_in_the_tables(bare: Engine) -> None:
    upgrade(bare)
    with sessions(bare).begin() as session:
        job = queries.submit(session, read_spec({"dataset": "digits"}), name="kept")
        claim = queries.claim(session, job.id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        queries.record_epoch(session, claim, {"epoch": 1, "loss": 0.5}, {"epoch": 1})
        assert queries.succeed(session, claim, manifest={"version": 1}, prefix="p", result={"test_accuracy": 0.9})
    before = _counted(bare)
    downgrade(bare, "0001")
    upgrade(bare)
    assert _counted(bare) == before == {"jobs": 1, "epoch_metrics": 1, "attempts": 1, "models": 1}
    with pytest.raises(IntegrityError), sessions(bare).begin() as session:  # references are watched again
        session.execute(text("DELETE FROM jobs"))


@pytest.mark.slow
def test_four_processes_may_upgrade_at_once(bare: Engine, bare_database_url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _UPGRADE, bare_database_url]
    upgrading = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    complaints = [process.communicate(timeout=60)[1] for process in upgrading]
    assert complaints == ["", "", "", ""]
    assert [process.returncode for process in upgrading] == [0, 0, 0, 0]
    assert is_current(bare)


def test_the_database_itself_refuses_an_unknown_status(engine: Engine) -> None:
    with sessions(engine)() as session:
        session.add(Job(id="job_x", spec={}, queue="cpu", request_sha256="0"))
        session.flush()
        with pytest.raises(IntegrityError, match="ck_jobs_status"):
            session.execute(text("UPDATE jobs SET status = 'sleeping'"))


def _described(engine: Engine) -> dict[str, Any]:
    """Everything that the database tells about its tables, in a form that can be compared."""
    inspector = inspect(engine)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
            "primary": inspector.get_pk_constraint(table),
            "checks": sorted(_check(c["name"], c["sqltext"]) for c in inspector.get_check_constraints(table)),
            "unique": sorted((c["name"], c["column_names"]) for c in inspector.get_unique_constraints(table)),
            "foreign": sorted((c["name"], c["referred_table"]) for c in inspector.get_foreign_keys(table)),
            "indexes": sorted((i["name"], i["column_names"], i["unique"]) for i in inspector.get_indexes(table)),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def _check(name: str | None, rule: str) -> tuple[str | None, str]:
    return name, "".join(rule.split())


def _counted(engine: Engine) -> dict[str, int]:
    tables = ("jobs", "epoch_metrics", "attempts", "models")
    with engine.connect() as connection:
        return {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables}
