"""Output of commands: JSON objects or text on standard output, progress on standard error."""

from __future__ import annotations

import json

import click


def emit(**fields: object) -> None:
    """Print one JSON object as a line on standard output."""
    click.echo(json.dumps(fields))
