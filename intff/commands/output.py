"""How commands report: JSON objects on standard output, or words for people; progress on standard error."""

from __future__ import annotations

import json
from typing import Any

import click


def emit(**fields: Any) -> None:  # noqa: ANN401 -- any JSON value
    """One JSON object on a line of standard output."""
    click.echo(json.dumps(fields))
