"""Two of everything that there should be one of: APIs with their reconcilers, and supervisors in one home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from store.statuses import AttemptOutcome
from tests.faults.installation import Installation, lives, spec

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived

pytestmark = pytest.mark.faults

EPOCHS = 600


@pytest.fixture
def settings() -> dict[str, str]:
    return {"INTFF_SWEEP_SECONDS": "0.05", "INTFF_REPUBLISH_SECONDS": "0.1"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_four_reconcilers_at_once_do_no_double_work(installation: Installation, survived: Survived) -> None:
    """They sweep twenty times a second and publish every job again and again."""
    installation.start(apis=4, workers=2)
    jobs = [installation.submit(20, seed=number, api=number % 4) for number in range(8)]
    for job in jobs:
        installation.wait_until_succeeded(job)
        installation.require_whole(job, 20)
        assert installation.outcomes(job) == [AttemptOutcome.SUCCEEDED]
    for api in installation.apis:
        log = api.log.read_text()
        assert "Traceback" not in log
        assert "sweep_failed" not in log
    survived("four APIs and their reconcilers", times=len(jobs), figure="each job attempted once")


def serve(home: Path, messages: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("intff")), "serve", "--home", str(home), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
    environment |= {"INTFF_WORKER_THREADS": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with messages.open("wb") as log:
        return subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)


def address(supervisor: subprocess.Popen[bytes], messages: Path) -> str:
    deadline = time.monotonic() + 90
    while "serves at" not in messages.read_text():
        assert supervisor.poll() is None, messages.read_text()
        assert time.monotonic() < deadline, messages.read_text()
        time.sleep(0.1)
    return next(word for word in messages.read_text().split() if word.startswith("http://"))


def test_five_supervisors_started_at_once_in_one_home_and_ctrl_c(
    tmp_path: Path, weights_of: References, survived: Survived
) -> None:
    home = tmp_path / "home"
    logs = [tmp_path / f"supervisor-{number}" for number in range(5)]
    supervisors = [serve(home, log) for log in logs]
    try:
        deadline = time.monotonic() + 90
        while sum(each.poll() is None for each in supervisors) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (first,) = [number for number, each in enumerate(supervisors) if each.poll() is None]
        for number, each in enumerate(supervisors):
            if number != first:
                assert each.returncode == 1
                assert f"process {supervisors[first].pid}" in logs[number].read_text()
        survived("supervisors in a home that has one", times=4, figure="each refused, naming the first")

        url = address(supervisors[first], logs[first])
        job = httpx.post(f"{url}/v1/jobs", json={"spec": spec(EPOCHS)}, timeout=30).json()["id"]
        wait(lambda: look(url, job)["latest_metrics"])
        family = psutil.Process(supervisors[first].pid).children(recursive=True)
        os.killpg(supervisors[first].pid, signal.SIGINT)  # what Ctrl-C sends
        told = time.monotonic()
        assert supervisors[first].wait(40) == 0
        stopped = time.monotonic() - told
        wait(lambda: not any(lives(each) for each in family), seconds=1)
        survived("Ctrl-C on intff serve in training", figure=f"{len(family)} processes gone within {stopped:.1f} s")

        again = tmp_path / "again"
        supervisors.append(serve(home, again))
        url = address(supervisors[-1], again)
        wait(lambda: look(url, job)["status"] == "succeeded")
        done = look(url, job)
        assert done["attempt"] == 2
        manifest = httpx.get(f"{url}/v1/models/{done['model_id']}/artifacts/manifest.json", timeout=30).json()
        assert manifest["files"]["weights.safetensors"]["sha256"] == weights_of(EPOCHS)
        survived("intff serve started again", figure="the job went on where it was")
    finally:
        for each in supervisors:
            each.terminate()
            each.wait(40)


def look(url: str, job: str) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{url}/v1/jobs/{job}", timeout=30).json()
    return found


def wait(happened: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)
