"""What attacks start from: a real API process with a model to ask, its log and its memory, and raw connections."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from intff.spec import read_spec
from intff.trainer import Trainer
from service.connections import SERVER_OPTIONS
from store import queries
from store.artifacts import Artifacts
from store.database import Sessions, connect, sessions, upgrade
from store.tables import NO_OWNER
from tests.faults.servers import PrivateValkey, free_port

SPEC: dict[str, Any] = {
    "dataset": {"kind": "digits", "train_size": 200, "validation_size": 100},
    "architecture": "64,(16),(8)",
    "training": {"epochs": 1, "device": "cpu"},
}
IMAGE = [0.0] * 63 + [1.0]


class Target:
    """An API process on SQLite, which attacks may do anything to."""

    def __init__(self, folder: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database_url = f"sqlite:///{folder / 'intff.db'}"
        self.broker = PrivateValkey()
        self.broker.start()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
        self.environment = {
            **inherited,
            "INTFF_HOME": str(folder),
            "INTFF_DATABASE_URL": self.database_url,
            "INTFF_BROKER_URL": self.broker.url,
            "INTFF_ARTIFACTS_URL": str(folder / "artifacts"),
            "INTFF_WORKER_QUEUES": "cpu,gpu",
            "INTFF_WORKER_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            **settings,
        }
        self._engine = connect(self.database_url)
        upgrade(self._engine)
        self.sessions: Sessions = sessions(self._engine)
        self.log = folder / "api.log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the API, and wait until it answers."""
        command = [sys.executable, "-m", "uvicorn", "service.app:app", "--port", str(self.port)]
        self.api = self.run([*command, *SERVER_OPTIONS, "--timeout-graceful-shutdown", "3"], self.log)
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self.api.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-q", "-A", "worker.app", "worker", "--hostname", f"{name}@%h"]
        return self.run(command, self.folder / f"{name}.log")

    def run(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        self.processes.append(process)
        return process

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def memory(self) -> int:
        """Bytes that the API's process holds and shares with nobody."""
        return int(psutil.Process(self.api.pid).memory_full_info().uss)

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send_raw(self, data: bytes, seconds: float = 10) -> bytes:
        """What comes back until the server closes, or for so many seconds."""
        with self.connect() as raw:
            raw.sendall(data)
            raw.settimeout(seconds)
            answer = b""
            try:
                while part := raw.recv(65536):
                    answer += part
            except TimeoutError:
                pass
            return answer

    def publish(self, owner: str = NO_OWNER, **fields: Any) -> tuple[str, str]:
        """Train a job here and now, as a worker does; the ids of the job and its model."""
        spec = read_spec(SPEC)
        with self.sessions.begin() as session:
            job = queries.submit(session, spec, owner=owner, **fields)
        trainer = Trainer(spec)
        events = list(trainer.run())
        folder = self.folder / f"made-{job.id}"
        manifest = trainer.export_model(folder)
        prefix = f"models/{job.id}/attempt-1"
        Artifacts(str(self.folder / "artifacts")).put_folder(folder, prefix)
        with self.sessions.begin() as session:
            claim = queries.claim(session, job.id, worker="test", lease_seconds=60, max_attempts=3)
            assert claim is not None
            metrics = [vars(each.metrics) for each in events if hasattr(each, "metrics")]
            for each in metrics:
                queries.record_epoch(session, claim, each, {"epoch": 1, "epochs": 1, "fraction": 1.0})
            result = dict(manifest.result)
            model = queries.succeed(session, claim, manifest=vars(manifest), prefix=prefix, result=result)
            assert model is not None
            return job.id, model.id

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                    each.kill()
            process.wait()
        self._engine.dispose()
        self.broker.close()


@contextmanager
def attacked(folder: Path, **settings: str) -> Iterator[Target]:
    """A target that runs, until the end."""
    target = Target(folder, **settings)
    try:
        target.start()
        yield target
    finally:
        target.close()


def signed(key: str) -> dict[str, str]:
    """The header that sends a key."""
    return {"Authorization": f"Bearer {key}"}
