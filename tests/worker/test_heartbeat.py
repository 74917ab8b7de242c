from __future__ import annotations

import os

from worker.heartbeat import own_name


def test_two_workers_of_one_name_and_host_are_two() -> None:
    """By their processes; what follows the @ stays the host, by which a container's health check finds its own."""
    assert own_name("celery@host") == f"celery-{os.getpid()}@host"
