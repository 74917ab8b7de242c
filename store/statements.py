"""Statements that the queries share: a conditional update that returns the row, and an upsert."""

from __future__ import annotations

from sqlalchemy import ColumnElement, literal, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session

from store.statuses import JobStatus
from store.tables import Job

CHANGE = {"synchronize_session": False, "populate_existing": True}
"""Options of every UPDATE: the database decides which rows it changes, and the session takes over what it returns."""


def change_job(session: Session, *conditions: ColumnElement[bool], **values: object) -> Job | None:
    """Change the one job that meets all conditions, in one statement, and increment its revision.

    Returns:
        The row as it is now, or None if nothing met the conditions.
    """
    return session.scalars(
        update(Job).where(*conditions).values(revision=Job.revision + 1, **values).returning(Job),
        execution_options=CHANGE,
    ).one_or_none()


def insert_into(session: Session, table: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT with ON CONFLICT, which both databases support but SQLAlchemy has once per dialect."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def status(value: JobStatus) -> ColumnElement[JobStatus]:
    """A status as an SQL expression, for the branches of a CASE."""
    return literal(value, Job.status.type)
