from __future__ import annotations

import time

import pytest

from worker import cooldown
from worker.cooldown import Cooldown
from worker.shutdown import StopRequest


def test_no_job_is_taken_for_a_while_after_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooldown, "COOLDOWN_SECONDS", 0.5)
    resting = Cooldown()
    assert _seconds(resting, StopRequest()) < 0.05
    resting.begin()
    assert 0.4 < _seconds(resting, StopRequest()) < 2.0
    assert _seconds(resting, StopRequest()) < 0.05


def test_a_worker_that_is_told_to_stop_does_not_finish_its_rest() -> None:
    resting, stop = Cooldown(), StopRequest()
    resting.begin()
    stop.ask()
    assert _seconds(resting, stop) < 0.5


def _seconds(resting: Cooldown, stop: StopRequest) -> float:
    began = time.monotonic()
    resting.wait(stop)
    return time.monotonic() - began
