"""`intff keys`: create, list and revoke API keys directly in the service's database, even while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.connection import columns

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from store.tables import ApiKey


@click.group()
def keys() -> None:
    """Create and revoke API keys of the service whose database INTFF_DATABASE_URL or INTFF_HOME names.

    Once a key has been created, the service requires one from everybody, even after the last was
    revoked. A running service picks up a change within a second.
    """


def _on_database(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --home and --json to a command, and report errors in one line."""

    @click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        help="The service's home folder (default: INTFF_HOME, else ~/.intff).",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
    @wraps(command)
    def run(home: Path | None, as_json: bool, **options: object) -> None:
        # Imported here, so that the other commands of `intff` do not wait for the database's packages.
        from sqlalchemy.exc import DatabaseError  # noqa: PLC0415

        from store.errors import StoreError  # noqa: PLC0415

        try:
            with _session(home) as session:
                command(session, as_json, **options)
        except DatabaseError as error:
            message = f"the database cannot be used: {str(error.orig).strip()}"
            raise click.ClickException(message) from error
        except StoreError as error:
            raise click.ClickException(str(error)) from error

    return run


@keys.command()
@click.argument("name")
@click.option(
    "--shares-with", metavar="NAME", help="An existing key, even a revoked one, whose jobs and models it shares."
)
@_on_database
def create(session: Session, as_json: bool, name: str, shares_with: str | None) -> None:
    """Create a key and print it. It is shown only this once; only its hash is stored.

    The first key of a service owns the jobs and models that were made without one.
    """
    from store.queries import adopt_ownerless, create_key, known_keys  # noqa: PLC0415 -- as in _on_database

    if not 0 < len(name) <= 200 or not name.isprintable():  # noqa: PLR2004 -- the column's length
        message = "a name must have 1 to 200 printable characters"
        raise click.BadParameter(message, param_hint="NAME")
    is_first = not known_keys(session).has_any
    key, row = create_key(session, name, shares_with=shares_with)
    adopted = adopt_ownerless(session, row.owner) if is_first else 0
    session.commit()  # before printing: a key that is shown must work
    if as_json:
        click.echo(json.dumps({"key": key, **_shown(row)}))
        return
    click.echo(key)
    click.echo("Keep it: it cannot be shown again. Send it as 'Authorization: Bearer KEY'.", err=True)
    if adopted:
        jobs = "1 job" if adopted == 1 else f"{adopted:,} jobs"
        click.echo(f"It owns what was made before there were keys: {jobs} and their models.", err=True)


@keys.command("list")
@_on_database
def list_all(session: Session, as_json: bool) -> None:
    """List every key ever created: its first characters, and when it was created, last used and revoked."""
    from store.queries import list_keys  # noqa: PLC0415 -- as in _on_database

    rows = list_keys(session)
    if as_json:
        for row in rows:
            click.echo(json.dumps(_shown(row)))
        return
    columns(
        ("name", "key", "created", "last used", "revoked"),
        [
            (row.name, f"{row.prefix}...", _day(row.created_at), _day(row.last_used_at), _day(row.revoked_at))
            for row in rows
        ],
    )


@keys.command()
@click.argument("name")
@_on_database
def revoke(session: Session, as_json: bool, name: str) -> None:
    """Revoke the key NAME permanently. Jobs and models created with it stay."""
    from store.queries import revoke_key  # noqa: PLC0415 -- as in _on_database

    row = revoke_key(session, name)
    session.commit()
    if as_json:
        click.echo(json.dumps(_shown(row)))
    else:
        click.echo(f"{row.name} is revoked", err=True)


@contextmanager
def _session(home: Path | None) -> Iterator[Session]:
    from store.database import connect, sessions, upgrade  # noqa: PLC0415 -- as in _on_database
    from store.settings import read_settings  # noqa: PLC0415

    settings = read_settings(**({} if home is None else {"home": home}))
    engine = connect(settings.database_url)
    try:
        upgrade(engine)  # the first key may be created before the service's first start
        with sessions(engine)() as session:
            yield session
    finally:
        engine.dispose()


def _shown(row: ApiKey) -> dict[str, str | None]:
    return {
        "name": row.name,
        "prefix": row.prefix,
        "created_at": _iso(row.created_at),
        "last_used_at": _iso(row.last_used_at),
        "revoked_at": _iso(row.revoked_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"
