"""A service that cannot start says why to whoever starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INTFF_DATABASE_URL", "postgresql://127.0.0.1:1/intff", "Connection refused"),
        ("INTFF_DATABASE_URL", f"sqlite:///{__file__}", "file is not a database"),
        ("INTFF_ARTIFACTS_URL", "nix://bla", "nix"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_a_sentence(
    variable: str, value: str, says: str, tmp_path: Path
) -> None:
    settings = {"INTFF_HOME": str(tmp_path), "INTFF_BROKER_URL": "redis://127.0.0.1:1", variable: value}
    command = [sys.executable, "-m", "uvicorn", "service.app:app", "--port", "0"]
    environment = {**os.environ, **settings}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    [sentence] = [line for line in ended.stderr.splitlines() if "the service cannot start: " in line]
    assert says in sentence
    assert "Traceback" not in ended.stderr
