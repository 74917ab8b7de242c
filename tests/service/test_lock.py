from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.lock import HomeInUse, HomeLock


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = HomeLock(tmp_path / "serve.lock")
    first.acquire()
    first.note("http://127.0.0.1:8000")
    with pytest.raises(HomeInUse, match=rf"process {os.getpid()} at http://127.0.0.1:8000"):
        HomeLock(tmp_path / "serve.lock").acquire()

    first.release()
    second = HomeLock(tmp_path / "serve.lock")
    second.acquire()
    assert json.loads((tmp_path / "serve.lock").read_text()) == {"pid": os.getpid(), "url": None}
    second.release()


def test_the_lock_outlives_its_holder_for_as_long_as_a_child_of_it_runs(tmp_path: Path) -> None:
    die_and_leave_a_child = (
        "import os, pathlib, subprocess, sys\n"
        "from service.lock import HomeLock\n"
        "lock = HomeLock(pathlib.Path(sys.argv[1]))\n"
        "lock.acquire()\n"
        "print(subprocess.Popen(['sleep', '60'], pass_fds=[lock.handle], stdout=subprocess.DEVNULL).pid)\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-uc", die_and_leave_a_child, str(tmp_path / "serve.lock")]
    child = int(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    lock = HomeLock(tmp_path / "serve.lock")
    with pytest.raises(HomeInUse, match="processes of an earlier intff serve"):
        lock.acquire(wait_seconds=0.3)

    os.kill(child, 9)
    lock.acquire()
    lock.release()
