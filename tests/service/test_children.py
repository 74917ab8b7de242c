"""Children of the supervisor: their logs stay short while they run."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from service import children
from service.children import Child

TALKS = "import time\nfor number in range(10**9): print(number, flush=True); time.sleep(0.001)"


def test_a_log_that_has_grown_long_is_laid_aside_and_its_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 500)
    log, aside = tmp_path / "child.log", tmp_path / "child.log.1"
    child = Child("child", [sys.executable, "-c", TALKS], os.environ, log)
    child.start()
    try:
        until = time.monotonic() + 20
        while not (aside.exists() and log.stat().st_size > 100) and time.monotonic() < until:
            child.shorten_log()
            time.sleep(0.01)
        assert log.stat().st_size < 2000
        before, after = aside.read_text().splitlines(), log.read_text().splitlines()
    finally:
        child.wait(0, lambda: True)
    assert before[0] == "0"
    assert int(after[1]) > int(before[-2])  # whole lines of both


def test_a_child_that_cannot_be_started_again_now_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no more processes are to be had for a moment."""
    monkeypatch.setattr(children, "FIRST_DELAY", 0.01)
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    child = Child("child", [str(program), "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "child.log")
    child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    program.rename(tmp_path / "elsewhere")
    until = time.monotonic() + 20
    while child.died() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.05)
    assert not child.start_again()
    (tmp_path / "elsewhere").rename(program)
    try:
        while not child.start_again():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert child.pid is not None
    finally:
        child.wait(0, lambda: True)
