"""One event a line, with the job and the attempt that it belongs to, whoever logged it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from store.logs import bind, set_up
from store.settings import Settings


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_the_job_and_the_attempt() -> None:
    stream = io.StringIO()
    set_up(Settings(log_json=True), stream)
    with bind(job="job_1", attempt=2):
        structlog.get_logger("intff.worker").info("claimed", queue="cpu")
        logging.getLogger("celery").warning("from a %s", "library")
    structlog.get_logger("intff.worker").info("idle")
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["queue"], first["job"], first["attempt"]) == ("claimed", "cpu", "job_1", 2)
    assert (first["level"], first["logger"], first["timestamp"][-1]) == ("info", "intff.worker", "Z")
    assert (second["event"], second["job"], second["logger"]) == ("from a library", "job_1", "celery")
    assert "job" not in third


def test_a_traceback_is_part_of_its_line() -> None:
    stream = io.StringIO()
    set_up(Settings(log_json=True), stream)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("broken")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    set_up(Settings(log_level="warning"), stream)
    structlog.get_logger().info("chatter")
    logging.getLogger("alembic").info("chatter")
    structlog.get_logger().warning("trouble", disk="full")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()
    assert "disk=full" in stream.getvalue()
