"""A whole installation of real processes: APIs, workers, a database and a broker, and what tests do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import redis

from store.database import connect, sessions
from store.jobs import get_job, list_metrics
from store.statuses import AttemptOutcome, JobStatus
from store.tables import Attempt, Job, Model
from tests.faults.servers import free_port

LEASE_SECONDS = 4.0  # a machine with two cores and ten processes may keep a thread waiting for a second or two
SWEEP_SECONDS = 0.5
REPUBLISH_SECONDS = 2.0
POLL_SECONDS = 0.1  # looking twice as often takes a tenth of the processor from what is looked at

# Twelve layers whose weights grow by ten a step: their product leaves the range of float32 in the first epoch.
DIVERGING: dict[str, Any] = {
    "architecture": {"units": [[64] * 12], "activation": "relu"},
    "algorithm": {"label_encoding": "overlay"},
    "training": {"learning_rate": 10},
}


def _heed_hangup() -> None:
    """These tests may themselves run under `nohup`, whose ignored SIGHUP a process would inherit."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Program:
    """A process of the installation, with its log."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_heed_hangup,  # noqa: PLW1509 - the tests start processes from their only thread
            )

    def kill(self) -> None:
        """`kill -9` of the process itself; its children are left to notice."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(30)

    @property
    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    @property
    def trainer(self) -> psutil.Process | None:
        """Of a worker: the pool's process, which trains; None while there is none."""
        found = [each for each in _children(self.process.pid) if "spawn_main" in " ".join(_line(each))]
        return found[0] if found else None

    def close(self) -> None:
        if self.process.poll() is None:
            for each in self.family:
                each.kill()
        self.process.wait()


class Installation:
    """APIs and workers beside one database and one broker, with short leases."""

    def __init__(self, home: Path, database_url: str, broker_url: str, **settings: str) -> None:
        home.mkdir()
        self.home = home
        self.artifacts = home / "artifacts"
        self.engine = connect(database_url)
        self.sessions = sessions(self.engine)
        self.apis: list[Program] = []
        self.workers: list[Program] = []
        self.urls: list[str] = []
        self.remark = ""
        self.lease_seconds = LEASE_SECONDS
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
        self.environment = {
            **inherited,
            "INTFF_HOME": str(home),
            "INTFF_DATABASE_URL": database_url,
            "INTFF_BROKER_URL": broker_url,
            "INTFF_LEASE_SECONDS": str(LEASE_SECONDS),
            "INTFF_SWEEP_SECONDS": str(SWEEP_SECONDS),
            "INTFF_REPUBLISH_SECONDS": str(REPUBLISH_SECONDS),
            "INTFF_WORKER_QUEUES": "cpu,gpu",
            "INTFF_WORKER_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            **settings,
        }

    def start_api(self, settings: dict[str, str]) -> Program:
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "service.app:app", "--port", str(port)]
        command += ["--timeout-graceful-shutdown", "3"]
        name = f"api-{len(self.apis) + 1}"
        api = Program(name, command, self.environment | settings, self.home / f"{name}.log")
        self.apis.append(api)
        self.urls.append(f"http://127.0.0.1:{port}")
        return api

    def start_worker(self, settings: dict[str, str]) -> Program:
        name = f"worker-{len(self.workers) + 1}"
        command = [sys.executable, "-m", "celery", "-q", "-A", "worker.app", "worker", "--hostname", f"{name}@%h"]
        worker = Program(name, command, self.environment | settings, self.home / f"{name}.log")
        self.workers.append(worker)
        return worker

    def start(self, *, apis: int = 1, workers: int = 1, settings: dict[str, str] | None = None) -> None:
        """Start processes, and wait until all of them can do their work."""
        for _ in range(apis):
            self.start_api(settings or {})
        for _ in range(workers):
            self.start_worker(settings or {})
        for url in self.urls:
            self.wait(partial(is_ready, url), f"{url} is ready")
        for worker in self.workers:
            self.wait(partial(self.is_fit, worker), f"{worker.name} has its trainer")

    def is_fit(self, worker: Program) -> bool:
        """Whether its training process has imported torch and waits for a job."""
        trainer = worker.trainer
        if trainer is None:
            return False
        libraries = Path(f"/proc/{trainer.pid}/maps").read_text()
        return "libtorch" in libraries

    def post(
        self, path: str, json: Any = None, *, api: int = 0, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return httpx.post(f"{self.urls[api]}{path}", json=json, timeout=60, headers=headers)

    def get(self, path: str, *, api: int = 0) -> httpx.Response:
        return httpx.get(f"{self.urls[api]}{path}", timeout=60)

    def submit(self, epochs: int, *, seed: int = 0, api: int = 0, **fields: Any) -> str:
        """Send a job as clients do who want it exactly once: again, with the same key, until it is accepted."""
        key = uuid4().hex
        body = {"spec": spec(epochs, seed=seed, **fields)}
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self.post("/v1/jobs", body, api=api, headers={"Idempotency-Key": key})
                if answer.status_code == 202:
                    return str(answer.json()["id"])
                assert answer.status_code == 503, answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "no API accepts the job"
            api = (api + 1) % len(self.urls)
            time.sleep(0.2)

    def job(self, job_id: str) -> Job:
        with self.sessions() as session:
            return get_job(session, job_id, owner=None)

    def wait_for(self, job_id: str, happened: Callable[[Job], Any], seconds: float = 90.0) -> Job:
        """Wait for something about a job; one that ends otherwise is a failure."""
        deadline = time.monotonic() + seconds
        while not happened(now := self.job(job_id)):
            state = f"{job_id} is {now.status} at {now.progress}, attempt {now.attempt}: {now.error_message}"
            assert not now.status.is_terminal, f"{state}\n{self.last_words()}"
            assert time.monotonic() < deadline, f"{state}\n{self.last_words()}"
            time.sleep(POLL_SECONDS)
        return now

    def wait_until_succeeded(self, job_id: str, seconds: float = 90.0) -> Job:
        return self.wait_for(job_id, lambda now: now.status is JobStatus.SUCCEEDED, seconds)

    def wait_until_ended(self, job_id: str, seconds: float = 60.0) -> Job:
        """Wait for any end."""
        self.wait(lambda: self.job(job_id).status.is_terminal, f"{job_id} has ended", seconds)
        return self.job(job_id)

    def wait_until(self, job_id: str, status: str) -> None:
        """Wait for a state, in which the job may have been before."""
        self.wait(lambda: self.job(job_id).status == status, f"{job_id} is {status}")

    def wait(self, happened: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.last_words()}"
            time.sleep(POLL_SECONDS)

    def unfinished(self) -> int:
        """How many jobs have not ended."""
        with self.sessions() as session:
            return session.query(Job).filter(Job.finished_at.is_(None)).count()

    def outcomes(self, job_id: str) -> list[AttemptOutcome | None]:
        with self.sessions() as session:
            rows = session.query(Attempt).filter(Attempt.job_id == job_id).order_by(Attempt.attempt).all()
        assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
        return [row.outcome for row in rows]

    def weights(self, job_id: str) -> str:
        """The SHA-256 of the one model that the job published."""
        with self.sessions() as session:
            (model,) = session.query(Model).filter(Model.job_id == job_id)
        sha256: str = model.manifest["files"]["weights.safetensors"]["sha256"]
        return sha256

    def epochs(self, job_id: str) -> list[int]:
        """The epochs whose metrics are kept, in order."""
        with self.sessions() as session:
            return [metrics["epoch"] for metrics in list_metrics(session, job_id, owner=None)]

    def require_all_epochs(self, job_id: str) -> int:
        """No metrics are missing up to the last epoch that was reported; its number."""
        reported = self.job(job_id).latest_metrics
        assert reported is not None
        last: int = reported["epoch"]
        assert self.epochs(job_id) == list(range(1, last + 1))
        return last

    def require_whole(self, job_id: str, epochs: int) -> None:
        """A job that succeeded did so once: one model, every epoch, and attempts that all ended, one of them well."""
        job = self.job(job_id)
        assert job.status is JobStatus.SUCCEEDED
        assert self.epochs(job_id) == list(range(1, epochs + 1))
        outcomes = self.outcomes(job_id)
        assert len(outcomes) == job.attempt
        assert outcomes[-1] is AttemptOutcome.SUCCEEDED
        counted = Counter(outcomes)
        assert counted[AttemptOutcome.SUCCEEDED] == 1
        assert counted[AttemptOutcome.LOST] == job.losses
        assert counted[None] == 0

    def trainer(self, worker: int = 0) -> psutil.Process:
        """The training process of a worker, once there is one."""
        self.wait(lambda: self.workers[worker].trainer, "the worker has a training process")
        found = self.workers[worker].trainer
        assert found is not None
        return found

    def leftovers(self) -> list[str]:
        """What lies in the scratch folder and the artifact store, and belongs to no published model."""
        with self.sessions() as session:
            published = {self.artifacts / prefix for (prefix,) in session.query(Model.prefix)}
        scratch = list((self.home / "scratch").iterdir()) if (self.home / "scratch").exists() else []
        stored = [file for file in self.artifacts.rglob("*") if file.is_file() and file.parent not in published]
        return sorted(str(path.relative_to(self.home)) for path in [*scratch, *stored])

    def wait_until_tidy(self, seconds: float = 30.0) -> None:
        """Files are removed after a job's end is written, so that a crash in between costs space only."""
        self.wait(lambda: not self.leftovers(), f"nothing is left over: {self.leftovers()}", seconds)

    def waiting_messages(self) -> int:
        """How many ids are in the broker's queues, copies included."""
        broker = redis.Redis.from_url(self.environment["INTFF_BROKER_URL"])
        return sum(int(broker.llen(key)) for key in broker.scan_iter() if broker.type(key) == b"list")

    def last_words(self) -> str:
        logs = [program.log for program in [*self.apis, *self.workers]]
        ends = [f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        return "\n".join([self.remark, *ends])

    def close(self) -> None:
        for program in [*self.workers, *self.apis]:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
            program.close()
        self.engine.dispose()


def spec(epochs: int, *, seed: int = 0, **fields: Any) -> dict[str, Any]:
    """A small training run: some ten milliseconds an epoch."""
    training = {"epochs": epochs, "seed": seed, "device": "cpu", "batch_size": 64, **fields.pop("training", {})}
    return {"dataset": "digits", "architecture": "64,(32)", "training": training, **fields}


def lives(process: psutil.Process) -> bool:
    """An orphan that has ended is a zombie until whoever inherited it takes note."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _children(pid: int) -> list[psutil.Process]:
    """As psutil tells them, without a look at every process of the machine."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                with suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(int(child)))
    return found


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
