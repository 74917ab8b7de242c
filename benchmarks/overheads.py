"""The service's overhead for a job: the time until its first epoch begins, and the cost of its writes in training.

Run with `python -m benchmarks.overheads`. The first part submits jobs to a real `intff serve`, one
after the other. The second part alternately trains one spec, with epochs of about a second, with
the trainer alone and as a worker does, on SQLite and on PostgreSQL (INTFF_TEST_DATABASE_URL).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.databases import new_database
from benchmarks.measuring import free_port, machine, median
from intff.progress import Event, Finished, Started
from intff.spec import TrainSpec, read_spec
from intff.trainer import Trainer
from store import queries
from store.artifacts import Artifacts
from store.attempts import Claim
from store.database import Sessions, connect, sessions
from store.schema import upgrade
from worker import attempt
from worker.attempt import Attempt
from worker.lease import Lease
from worker.shutdown import StopRequest

_LAYERS = "784,(200,200,200),(50,50)"


def main() -> None:
    """Measure and print both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10, help="number of jobs in the first part")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of the second part")
    parser.add_argument("--epochs", type=int, default=15, help="number of epochs of each run in the second part")
    options = parser.parse_args()
    print(machine())
    _measure_start(options.jobs)
    _measure_writes(options.rounds, options.epochs)
    print(machine())


def _measure_start(jobs: int) -> None:
    """Measure the time from the request until the trainer has loaded its data, built its network and begins."""
    specs = {
        "MNIST, 60,000 images": {"architecture": _LAYERS, "training": {"epochs": 1}},
        "digits, 1,797 images": {"dataset": "digits", "architecture": "64,(32),(16)", "training": {"epochs": 1}},
    }
    with _service() as (client, home):
        for name, spec in specs.items():
            accepted, began = [], []
            for _ in range(jobs + 1):
                sent = time.time()
                job = client.post("/v1/jobs", json={"spec": spec}).raise_for_status().json()
                accepted.append(time.time() - sent)
                while not client.get(f"/v1/jobs/{job['id']}").json()["is_terminal"]:
                    time.sleep(0.05)
                began.append(_first_epoch(home, job["id"]) - sent)
            # The first job meets a cold worker.
            print(
                f"\n{name}: submit to answer {median(accepted[1:]) * 1e3:.0f} ms, submit to first epoch "
                f"{median(began[1:]):.2f} s (longest of {jobs}: {max(began[1:]):.2f} s; "
                f"the very first: {began[0]:.2f} s)"
            )


@contextmanager
def _service() -> Iterator[tuple[httpx.Client, Path]]:
    with TemporaryDirectory(prefix="intff-") as made:
        home, port = Path(made), free_port()
        environment = {**os.environ, "INTFF_HOME": made, "INTFF_LOG_JSON": "1"}
        command = [str(Path(sys.executable).with_name("intff")), "serve", "--port", str(port)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            process.stderr.readline()  # its address
            time.sleep(15)  # until the worker's process has imported torch
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield client, home
            process.terminate()


def _first_epoch(home: Path, job_id: str) -> float:
    """The time at which training began, by the worker's log."""
    for log in (home / "logs").glob("worker-*.log"):
        for line in log.read_text().splitlines():
            if job_id in line and '"training"' in line:
                return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    msg = f"no worker's log contains the start of {job_id}"
    raise RuntimeError(msg)


@dataclass
class Run:
    """Measurements of one training run, from its first step to its result."""

    wall: float = 0.0
    cpu: float = 0.0
    aside: float = 0.0
    """Seconds that the training thread spent on handling the trainer's events."""
    lease_cpu: float = 0.0
    """CPU seconds of the thread that talks to the database."""


class TimedTrainer(Trainer):
    """A trainer that measures how long its consumer keeps it waiting."""

    run_of: Run

    def run(self) -> Iterator[Event]:
        """Train, and measure from Started to Finished."""
        began = cpu = 0.0
        for event in super().run():
            if isinstance(event, Started):
                began, cpu = time.perf_counter(), time.process_time()
            if isinstance(event, Finished):
                self.run_of.wall = time.perf_counter() - began
                self.run_of.cpu = time.process_time() - cpu
            left = time.perf_counter()
            yield event
            self.run_of.aside += time.perf_counter() - left


class TimedLease(Lease):
    """A lease that measures the CPU time of its thread."""

    cpu = 0.0

    def run(self) -> None:
        """Renew the lease, and record the CPU time at the end."""
        super().run()
        self.cpu = time.thread_time()


def _measure_writes(rounds: int, epochs: int) -> None:
    spec = _spec_of_one_second(epochs)
    with ExitStack() as opened:
        databases = {
            "SQLite": f"sqlite:///{opened.enter_context(TemporaryDirectory())}/intff.db",
            "PostgreSQL": opened.enter_context(new_database()),
        }
        alone: list[Run] = []
        with_worker: dict[str, list[Run]] = {name: [] for name in databases}
        for _ in range(rounds):
            alone.append(_train_alone(spec))
            for name, url in databases.items():
                with_worker[name].append(_train_as_worker(spec, url))
    print(f"\n{epochs} epochs of {median([run.wall for run in alone]) / epochs:.2f} s, medians of {rounds} runs")
    for name, runs in with_worker.items():
        wall = median([run.wall / other.wall for run, other in zip(runs, alone, strict=True)])
        cpu = median([run.cpu / other.cpu for run, other in zip(runs, alone, strict=True)])
        aside = median([run.aside / run.wall for run in runs])
        lease = median([run.lease_cpu / run.wall for run in runs])
        print(
            f"{name}: the training thread spends {aside:.2%} of the time on events, reports and checkpoints, the "
            f"database thread {lease:.2%} of one core; as a worker / alone: wall x {wall:.3f}, CPU x {cpu:.3f}"
        )
    spread = [run.wall / median([each.wall for each in alone]) for run in alone]
    print(f"(wall times of the trainer alone range from x {min(spread):.3f} to x {max(spread):.3f} of their median)")


def _spec_of_one_second(epochs: int) -> TrainSpec:
    """A spec with as many MNIST images as this machine trains on in about a second per epoch."""
    whole = read_spec({"architecture": _LAYERS, "training": {"epochs": 1}})
    first = _train_alone(whole)
    images = min(55_000, int(55_000 / first.wall))
    return read_spec(
        {"architecture": _LAYERS, "dataset": {"kind": "mnist", "train_size": images}, "training": {"epochs": epochs}}
    )


def _train_alone(spec: TrainSpec) -> Run:
    trainer = TimedTrainer(spec)
    trainer.run_of = Run()
    for _ in trainer.run():
        pass
    return trainer.run_of


def _train_as_worker(spec: TrainSpec, url: str) -> Run:
    """Do what `worker.tasks.train` does with a job, in this process."""
    run = Run()

    class ThisTrainer(TimedTrainer):
        run_of = run

    engine = connect(url)
    upgrade(engine)
    opened = sessions(engine)
    claim = _claim(opened, spec)
    vars(attempt)["Trainer"] = ThisTrainer  # replaced here, so that the measured code needs no change
    try:
        with TemporaryDirectory() as home, TimedLease(opened, claim, StopRequest()) as lease:
            Attempt(
                claim,
                lease,
                artifacts=Artifacts(f"{home}/artifacts"),
                scratch=Path(home),
                data_dir=None,
                publish=lambda _: None,
            ).run()
    finally:
        vars(attempt)["Trainer"] = Trainer
        engine.dispose()
    run.lease_cpu = lease.cpu
    return run


def _claim(opened: Sessions, spec: TrainSpec) -> Claim:
    with opened.begin() as session:
        job = queries.submit(session, spec)
        claim = queries.claim(session, job.id, worker="benchmark", lease_seconds=15, max_attempts=3)
    assert claim is not None
    return claim


if __name__ == "__main__":
    main()
