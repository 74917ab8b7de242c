"""A worker that stops asks the attempt of its pool process to, by a signal that never kills the process."""

from __future__ import annotations

import os
import signal
from math import inf

import pytest

from worker.shutdown import StopRequest, heed_the_worker, stop_on_sigterm


def test_an_attempt_that_begins_after_the_signal_is_asked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopRequest, "worker_stops_since", inf)
    before = signal.getsignal(signal.SIGUSR2)
    try:
        heed_the_worker()
        with stop_on_sigterm() as running:
            assert not running.asked
            os.kill(os.getpid(), signal.SIGUSR2)
            assert running.asked
            assert 0 <= running.seconds_ago < 10
        monkeypatch.setattr(StopRequest, "worker_stops_since", inf)
        os.kill(os.getpid(), signal.SIGUSR2)  # between two attempts
        with stop_on_sigterm() as later:
            assert later.asked
    finally:
        signal.signal(signal.SIGUSR2, before)
