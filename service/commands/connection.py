"""What client commands share: how they reach the service, their common options, and how they print."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from service.client import Client

_INVALID = 422


class _Invalid(click.ClickException):
    """The service refused the input as invalid; unlike a UsageError, the command line itself was well-formed."""

    exit_code = 2


@dataclass(frozen=True)
class Connection:
    """The service's URL, the API key to send, and whether to print JSON."""

    url: str
    api_key: str | None
    as_json: bool

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the service; a request that it refuses as invalid counts as wrong usage."""
        from service.client import ApiError, Client  # noqa: PLC0415 -- httpx would slow `intff --help` down

        try:
            with Client(self.url, self.api_key) as client:
                yield client
        except ApiError as error:
            is_usage = error.status == _INVALID and error.code != "invalid_image"  # as `intff predict` has it
            raise (_Invalid if is_usage else click.ClickException)(str(error)) from error

    def answer(self, data: object) -> None:
        """Print one JSON object on one line of standard output."""
        click.echo(json.dumps(data, ensure_ascii=False))
        sys.stdout.flush()


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options --url, --api-key and --json to a command, and pass it the resulting connection."""

    @click.option(
        "--url",
        envvar="INTFF_URL",
        show_envvar=True,
        help="The service URL (default: the service that runs in INTFF_HOME, else 127.0.0.1 and INTFF_PORT or 8000).",
    )
    @click.option("--api-key", envvar="INTFF_API_KEY", show_envvar=True, help="The API key to send, if required.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
    @functools.wraps(command)
    def run(url: str | None, api_key: str | None, as_json: bool, **options: object) -> None:
        command(Connection(url or _local_url(), api_key, as_json), **options)

    return run


def _local_url() -> str:
    """The service of this machine, which moves to another port if its own is in use."""
    from service.lock import LOCK, serving_at  # noqa: PLC0415 -- not needed for `--help`
    from store.settings import read_settings  # noqa: PLC0415

    settings = read_settings()
    return serving_at(settings.home / LOCK) or f"http://127.0.0.1:{settings.port}"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns; nothing is truncated, so that the output can be piped."""
    table = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def facts(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Print names and values, one pair per line; a value of None is left out."""
    known = [(name, value) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in known)
    for name, value in known:
        click.echo(f"{name.ljust(width)}  {value}")


def percent(fraction: float | None) -> str | None:
    """A fraction as a percentage, or None."""
    return None if fraction is None else f"{100 * fraction:.2f} %"


def moment(timestamp: str | None) -> str | None:
    """A timestamp of the API in local time, or None."""
    from datetime import datetime  # noqa: PLC0415 -- only printed answers need it

    return None if timestamp is None else f"{datetime.fromisoformat(timestamp).astimezone():%Y-%m-%d %H:%M:%S}"
