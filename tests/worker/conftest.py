"""A real worker as people start it, beside a database and a broker of each kind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from intff.spec import read_spec
from store.database import connect, sessions
from store.jobs import get_job, submit
from store.queue import celery_app, publish
from store.reconcile import sweep
from store.statuses import JobStatus
from store.tables import NO_OWNER, Job

LEASE_SECONDS = 3


class Workshop:
    """Jobs in a database, and workers that are started and stopped at will."""

    def __init__(self, home: Path, database_url: str, broker_url: str) -> None:
        self.home = home
        self.engine = connect(database_url)
        self.sessions = sessions(self.engine)
        self.broker = celery_app(broker_url)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "INTFF_HOME": str(home),
            "INTFF_DATABASE_URL": database_url,
            "INTFF_BROKER_URL": broker_url,
            "INTFF_LEASE_SECONDS": str(LEASE_SECONDS),
            "INTFF_WORKER_QUEUES": "cpu,gpu",
            "CUDA_VISIBLE_DEVICES": "",
            "INTFF_WORKER_THREADS": "1",
        }

    @property
    def log(self) -> str:
        return (self.home / "worker.log").read_text()

    def start_worker(self) -> subprocess.Popen[bytes]:
        self.home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "celery", "-q", "-A", "worker.app", "worker"]
        command += ["--hostname", f"worker-{len(self.workers) + 1}@%h"]
        with (self.home / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
        self.workers.append(worker)
        return worker

    def submit(self, epochs: int, **fields: Any) -> Job:
        training = {"epochs": epochs, "device": "cpu", "batch_size": 64}  # some ten milliseconds an epoch
        spec = {"dataset": "digits", "architecture": "64,(32)", "training": training}
        with self.sessions.begin() as session:
            job = submit(session, read_spec(spec | fields))
        self.publish(job)
        return job

    def publish(self, job: Job) -> None:
        publish(self.broker, job)

    def job(self, job: Job) -> Job:
        with self.sessions() as session:
            return get_job(session, job.id, owner=NO_OWNER)

    def wait_for(self, job: Job, happened: Callable[[Job], Any], seconds: float = 200.0) -> Job:
        deadline = time.monotonic() + seconds
        while not happened(now := self.job(job)):
            if time.monotonic() > deadline or now.status.is_terminal:
                pytest.fail(f"job is {now.status}, {now.progress}, {now.error_message}\n{self.log[-4000:]}")
            time.sleep(0.05)
        return now

    def wait_until_succeeded(self, job: Job) -> Job:
        return self.wait_for(job, lambda now: now.status is JobStatus.SUCCEEDED)

    def sweep_until_queued(self, job: Job) -> None:
        """What the reconciler does once the lease has run out; a quick worker may have the job again by then."""
        deadline, lost = time.monotonic() + 4 * LEASE_SECONDS, self.job(job).attempt
        while (now := self.job(job)).status is JobStatus.RUNNING and now.attempt == lost:
            assert time.monotonic() < deadline, "the lease does not run out"
            with self.sessions.begin() as session:
                due = sweep(session, max_attempts=3).to_publish
            for queued in due:
                publish(self.broker, queued)
            time.sleep(0.2)

    def wait_until_gone(self, *prefixes: str) -> None:
        """Files are removed after the job's end is written, so that a crash in between only costs space."""
        deadline = time.monotonic() + 10
        while left := [prefix for prefix in prefixes if (self.home / prefix).exists()]:
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)

    def trainer_of(self, worker: subprocess.Popen[bytes]) -> psutil.Process:
        """The pool's child, which trains."""
        (child,) = [p for p in psutil.Process(worker.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        return child

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self.broker.close()
        self.engine.dispose()


@pytest.fixture
def workshop(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Workshop]:
    shop = Workshop(tmp_path / "home", database_url, broker_url)
    yield shop
    shop.close()
