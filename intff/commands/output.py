"""How commands report: JSON objects on standard output, or words for people; progress on standard error."""

from __future__ import annotations

import json

import click


def emit(**fields: object) -> None:
    """One JSON object on a line of standard output."""
    click.echo(json.dumps(fields))
