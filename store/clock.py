"""The database's clock, the only one used for leases and deadlines, in each database's SQL."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import DateTime, select
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Moment(TypeDecorator[datetime]):
    """A point in time, time-zone-aware and in UTC on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time, and convert any other to UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a stored time needs a time zone, got {value!r}"
            raise ValueError(msg)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Add the time zone that SQLite's text lacks; PostgreSQL answers in the session's time zone."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class clock(FunctionElement[datetime]):  # noqa: N801 -- reads as the SQL function that it is
    """The database's current time, optionally plus a number of seconds.

    On PostgreSQL this is `clock_timestamp()`, not `now()`: a statement that waited for a lock must see
    the time after the wait, not the time at which its transaction began.
    """

    type = Moment()
    name = "clock"
    inherit_cache = True


@compiles(clock, "postgresql")
def _postgresql(element: clock, compiler: SQLCompiler, **kw: object) -> str:
    seconds = [compiler.process(argument, **kw) for argument in element.clauses]
    return f"(clock_timestamp() + make_interval(secs => {seconds[0]}))" if seconds else "clock_timestamp()"


@compiles(clock, "sqlite")
def _sqlite(element: clock, compiler: SQLCompiler, **kw: object) -> str:
    # SQLite only has milliseconds; the zeros pad the text to the length of stored times.
    seconds = [compiler.process(argument, **kw) for argument in element.clauses]
    later = f", printf('%+.3f seconds', {seconds[0]})" if seconds else ""
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now'{later}) || '000')"


def database_time(session: Session) -> datetime:
    """Ask the database what time it is."""
    return session.execute(select(clock())).scalar_one()
