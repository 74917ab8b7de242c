"""The clock of a host is an hour off, either way, with no effect: leases and orders go by the database's."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store.statuses import AttemptOutcome

if TYPE_CHECKING:
    from tests.faults.conftest import References, Survived
    from tests.faults.installation import Installation

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

EPOCHS = 600

# Python reads this file at its start, in every process of the program, the pool's among them.
_SHIFT = """
import datetime, os, time
offset = float(os.environ["CLOCK_OFFSET"])
real = {name: getattr(time, name) for name in ("time", "time_ns", "gmtime", "localtime", "ctime", "strftime")}
time.time = lambda: real["time"]() + offset
time.time_ns = lambda: real["time_ns"]() + int(offset * 1e9)
time.gmtime = lambda seconds=None: real["gmtime"](time.time() if seconds is None else seconds)
time.localtime = lambda seconds=None: real["localtime"](time.time() if seconds is None else seconds)
time.ctime = lambda seconds=None: real["ctime"](time.time() if seconds is None else seconds)
time.strftime = lambda form, moment=None: real["strftime"](form, moment or time.localtime())


class datetime_(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.timezone.utc).replace(tzinfo=None)

    @classmethod
    def today(cls):
        return cls.now()


datetime.datetime = datetime_
"""


@pytest.fixture
def skewed(tmp_path: Path) -> dict[int, dict[str, str]]:
    """The environment of a program whose clock is so many hours ahead."""
    folder = tmp_path / "skew"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SHIFT)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {hours: {"PYTHONPATH": path, "CLOCK_OFFSET": str(3600 * hours)} for hours in (-1, 1)}


def is_in(text: str, log: Path) -> bool:
    return text in log.read_text()


def test_hosts_whose_clocks_are_two_hours_apart(
    installation: Installation, skewed: dict[int, dict[str, str]], weights_of: References, survived: Survived
) -> None:
    """Each half of the installation is an hour off, in opposite directions, and one worker of them dies."""
    for hours in (-1, 1):
        installation.start(settings=skewed[hours])
    for hours, worker in zip((-1, 1), installation.workers, strict=True):
        hour = time.strftime("T%H:", time.gmtime(time.time() + 3600 * hours))
        installation.submit(1)
        installation.wait(partial(is_in, hour, worker.log), "its log has its own time")
    job = installation.submit(EPOCHS)
    began = installation.wait_for(job, lambda now: now.checkpoint)
    assert began.worker is not None
    holder = next(index for index, each in enumerate(installation.workers) if began.worker.startswith(each.name))
    time.sleep(1.5 * installation.lease_seconds)  # nobody takes it away from the living
    assert installation.job(job).attempt == 1

    installation.trainer(holder).kill()
    killed = time.monotonic()
    installation.wait_for(job, lambda now: now.attempt == 2)
    took = time.monotonic() - killed
    done = installation.wait_until_succeeded(job)

    assert installation.outcomes(job) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
    installation.require_whole(job, EPOCHS)
    assert installation.weights(job) == weights_of(EPOCHS)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert 0 < (done.finished_at - done.started_at).total_seconds() < 300
    survived("clock of a host an hour off, either way", times=4, figure=f"a kill was noticed after {took:.1f} s")
