"""The quickstart as on a machine without a network: one command, start to end, and nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"

pytestmark = pytest.mark.slow


def _start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
    offline = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "http_proxy": NOWHERE, "https_proxy": NOWHERE}
    local = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.Popen(
        # As scripts/quickstart runs it, once everything is installed.
        [sys.executable, "-P", "-m", "scripts.demonstration", *arguments],
        env={**rest, **offline, **local, "INTFF_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _left_running(home: Path) -> list[str]:
    """The commands of processes that have to do with this home."""
    return [
        " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get("INTFF_HOME") == str(home)
    ]


def test_without_a_network_the_digits_are_trained_classified_and_explained(tmp_path: Path) -> None:
    process = _start(tmp_path, "--once")
    said, complained = process.communicate(timeout=280)
    assert process.returncode == 0, said + complained
    assert "Data set  digits, 1,437 training images of 8x8 (scikit-learn" in said
    assert "because no copy of mnist was found, and it could not be downloaded" in said
    accuracy = re.search(r"Test accuracy ([\d.]+) %", said)
    assert accuracy is not None
    assert float(accuracy[1]) >= 93
    assert said.count("true") >= 3
    picture = re.search(r"--data-binary @(\S+)", said)
    assert picture is not None
    assert Path(picture[1]).read_bytes().startswith(b"\x89PNG")
    assert _left_running(tmp_path) == []


def test_a_stopped_quickstart_leaves_no_process_and_no_job_behind(tmp_path: Path) -> None:
    process = _start(tmp_path)
    assert process.stdout is not None
    began = time.monotonic()
    for line in process.stdout:
        if line.startswith("Job "):
            break
    assert time.monotonic() - began < 30  # of which the offline mirrors take some
    process.send_signal(signal.SIGINT)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == 130, complained
    assert complained.endswith("quickstart: stopped\n")
    assert _left_running(tmp_path) == []


def test_a_home_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    first = _start(tmp_path)
    try:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("Service "):
                break
        else:
            _, complained = first.communicate(timeout=60)
            pytest.fail(f"it ended before it served: {complained}")
        second = _start(tmp_path, "--once")
        _, complained = second.communicate(timeout=60)
        assert first.poll() is None, first.communicate()
        assert second.returncode == 1
        assert f"already runs in {tmp_path}" in complained
        assert "Traceback" not in complained
    finally:
        first.send_signal(signal.SIGTERM)
        _, complained = first.communicate(timeout=60)
    assert first.returncode == 130, complained
