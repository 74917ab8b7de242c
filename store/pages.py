"""One page of a list that is read newest first, with an identifier as its cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from store.tables import Job, Model

Row = TypeVar("Row", Job, Model)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first, and whether older ones follow."""

    rows: Sequence[Row]
    has_more: bool


def read_page(
    session: Session, table: type[Row], conditions: Sequence[ColumnElement[bool]], after: str | None, limit: int
) -> Page[Row]:
    """Read the rows that meet all conditions, after a cursor, which need not exist."""
    query = select(table).where(*conditions)
    if after is not None:
        query = query.where(table.id < after)
    found = session.scalars(query.order_by(table.id.desc()).limit(limit + 1)).all()
    return Page(found[:limit], has_more=len(found) > limit)
