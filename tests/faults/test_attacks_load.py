"""Many short jobs over two workers while many clients poll and predict: all succeed, and no process grows.

`INTFF_LOAD_JOBS=3000 pytest -m faults tests/faults/test_attacks_load.py` is a longer one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import func, select

from store.statuses import JobStatus
from store.tables import Attempt, Job, Model
from tests.faults.attacks import IMAGE, SPEC, Target, attacked

JOBS = int(os.environ.get("INTFF_LOAD_JOBS", "1000"))
CLIENTS = 50
PAUSE_SECONDS = 1.0  # of each client between two requests
MIB = 2**20

pytestmark = [pytest.mark.faults, pytest.mark.alone, pytest.mark.timeout(120 + JOBS)]


class Clients:
    """Fifty that poll jobs and predict, in a thread of their own, until told to stop."""

    def __init__(self, url: str, jobs: list[str]) -> None:
        self._url = url
        self._jobs = jobs
        self._done = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    @contextmanager
    def busy(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, timeout=60, limits=httpx.Limits(max_connections=None)
        ) as client:
            await asyncio.gather(*(self._poll(client, number) for number in range(CLIENTS)))

    async def _poll(self, client: httpx.AsyncClient, number: int) -> None:
        await asyncio.sleep(PAUSE_SECONDS * number / CLIENTS)
        for turn in range(10**9):
            if self._done.is_set():
                return
            began = time.perf_counter()
            if turn % 2:
                answer = await client.post("/v1/models/latest/predict", json={"images": [IMAGE]})
                self.seconds.append(time.perf_counter() - began)
            else:
                answer = await client.get(f"/v1/jobs/{self._jobs[(number + 7 * turn) % len(self._jobs)]}")
            self.statuses[answer.status_code] += 1
            await asyncio.sleep(PAUSE_SECONDS)


class Memory:
    """What each process holds, by the number of jobs that were done by then."""

    def __init__(self, target: Target) -> None:
        self._processes: dict[str, psutil.Process] = {"api": psutil.Process(target.api.pid)}
        for number, worker in enumerate(target.processes[1:], 1):
            parent = psutil.Process(worker.pid)
            self._processes[f"worker {number}"] = parent
            trainer = next(each for each in parent.children() if "spawn_main" in " ".join(each.cmdline()))
            self._processes[f"trainer {number}"] = trainer
        self.samples: dict[str, list[tuple[int, float]]] = {name: [] for name in self._processes}

    def sample(self, done: int) -> None:
        for name, process in self._processes.items():
            self.samples[name].append((done, process.memory_info().rss / MIB))

    def growth(self, warm: int) -> dict[str, tuple[float, float]]:
        """For each process what it holds, and what it gains in a hundred jobs, in MiB, after the first `warm` jobs.

        The gain is the median of the slopes between all pairs of samples, which a few jumps do not move.
        """
        found = {}
        for name, samples in self.samples.items():
            settled = [each for each in samples if each[0] >= warm]
            thinned = settled[:: max(1, len(settled) // 200)]
            slopes = [(b - a) / (m - n) for (n, a), (m, b) in combinations(thinned, 2) if m - n >= JOBS // 10]
            found[name] = (statistics.median(held for _, held in settled), 100 * statistics.median(slopes))
        return found


def test_all_jobs_of_a_load_succeed_and_no_process_grows(tmp_path: Path, record_property: Any) -> None:
    with attacked(tmp_path, INTFF_LOG_LEVEL="warning") as target:
        target.publish()
        for number in (1, 2):
            target.start_worker(f"worker-{number}")
        with httpx.Client(base_url=target.url, timeout=60) as client:
            _wait_for_trainers(target)
            began = time.monotonic()
            jobs = [client.post("/v1/jobs", json={"spec": SPEC}).json()["id"] for _ in range(JOBS)]
            memory, clients = Memory(target), Clients(target.url, jobs)
            with clients.busy():
                warm = _watch(target, memory)
            seconds = time.monotonic() - began
        _all_is_well(target, clients)
        growth = memory.growth(warm)
        slowest = statistics.quantiles(clients.seconds, n=100)[98]
        figure = (
            f"{JOBS} jobs in {seconds:.0f} s, memory from job {warm} on, {sum(clients.statuses.values())} requests, "
            f"p99 of predictions {1000 * slowest:.0f} ms; "
            + ", ".join(f"{name} {held:.0f} MiB {gain:+.2f}/100 jobs" for name, (held, gain) in growth.items())
        )
        record_property("fault", ["a load of jobs and clients", JOBS, figure])
        for name, (held, gain) in growth.items():
            # A leak of a few kilobytes a job would show; allocators settle within a few per cent.
            assert gain < 1 + 0.02 * held * 100 / JOBS, (name, figure)


def _wait_for_trainers(target: Target) -> None:
    deadline = time.monotonic() + 90
    while True:
        with suppress(StopIteration, psutil.NoSuchProcess):
            Memory(target)
            return
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _watch(target: Target, memory: Memory) -> int:
    """Until every job has ended; how many were done when the API's memory had settled."""
    done, moved, warm = 0, time.monotonic(), 0
    while done < JOBS + 1:  # and the one that was published before
        with target.sessions() as session:
            now = session.scalars(select(func.count()).where(Job.finished_at.is_not(None))).one()
        if now > done:
            done, moved = now, time.monotonic()
        assert time.monotonic() - moved < 60, f"nothing has ended for a minute, {done} of {JOBS} jobs are done"
        if not warm and done >= JOBS // 3:
            _load_models(target)
            with target.sessions() as session:
                warm = session.scalars(select(func.count()).where(Job.finished_at.is_not(None))).one()
        memory.sample(done)
        time.sleep(0.5)
    return warm


def _load_models(target: Target) -> None:
    """Two hundred models, twice, though the API keeps only 32.

    Its allocators settle after some hundreds of loads. The clients cause two a second, so that on a slow machine
    they settle during more jobs.
    """
    with target.sessions() as session:
        models = session.scalars(select(Model.id).limit(200)).all()
    with httpx.Client(base_url=target.url, timeout=60) as client:
        for model in [*models, *models]:
            assert client.post(f"/v1/models/{model}/predict", json={"images": [IMAGE]}).is_success


def _all_is_well(target: Target, clients: Clients) -> None:
    with target.sessions() as session:
        statuses = Counter(session.scalars(select(Job.status)))
        attempts = session.scalars(select(func.count()).select_from(Attempt)).one()
        models = session.scalars(select(func.count()).select_from(Model)).one()
    assert statuses == {JobStatus.SUCCEEDED: JOBS + 1}
    assert attempts == models == JOBS + 1
    assert set(clients.statuses) == {200}
    assert "request_failed" not in target.log.read_text()
