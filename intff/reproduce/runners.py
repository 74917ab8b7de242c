"""Runners execute runs: in local processes, or on a service by an entry point in the group `intff.job_runners`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.metadata import entry_points
from typing import Protocol

from intff.errors import IntffError, MissingExtra
from intff.reproduce.records import Outcome
from intff.spec import TrainSpec


class RunFailed(IntffError):
    """A run ended without a result, for a reason that may not recur."""

    code = "run_failed"


class Runner(Protocol):
    """Executes runs; may be called from several threads at once."""

    def __call__(self, spec: TrainSpec, name: str) -> Outcome:
        """Execute one run to its end.

        Raises:
            RunFailed: there is no outcome; another attempt may give one.
        """

    def stop(self) -> None:
        """Stop all current runs soon; each raises RunFailed."""


class LocalRunner:
    """Executes each run in its own single-threaded process, so that parallel runs do not slow each other down."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()

    def __call__(self, spec: TrainSpec, name: str) -> Outcome:
        """Execute one run to its end; see `Runner`."""
        del name
        command = [sys.executable, "-m", "intff.reproduce.one_run"]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        answer = ""
        # Its standard input stays open, since the process exits when it is closed. A new session keeps Ctrl-C from it.
        with (
            suppress(BrokenPipeError),  # it died before it could read
            subprocess.Popen(  # noqa: S603 -- this very Python and a module of its own
                command, stdin=pipe, stdout=pipe, text=True, env=one_thread, start_new_session=True
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            self._processes.add(process)
            if self._stopped.is_set():  # only now that `stop` would have found the process
                process.terminate()
            try:
                process.stdin.write(spec.model_dump_json() + "\n")
                process.stdin.flush()
                answer = process.stdout.read()
            finally:
                self._processes.discard(process)
        return _outcome(answer, process.returncode)

    def stop(self) -> None:
        """End the processes; see `Runner`."""
        self._stopped.set()
        for process in list(self._processes):
            process.terminate()


def remote_runner(url: str, api_key: str | None) -> Runner:
    """Create a runner that executes runs as jobs of a service.

    Args:
        url: of the service.
        api_key: for the service, if it needs one.

    Raises:
        MissingExtra: no installed package provides such a runner.
    """
    for point in entry_points(group="intff.job_runners", name="http"):
        runner: Runner = point.load()(url, api_key)
        return runner
    msg = "--url needs the service's client; install it with: pip install 'intff[service]'"
    raise MissingExtra(msg)


def _outcome(answer: str, code: int) -> Outcome:
    if code != 0:
        msg = f"its process ended with exit code {code} and no result"
        raise RunFailed(msg)
    content = json.loads(answer)
    if "failed" in content:
        raise RunFailed(content["failed"])
    return Outcome(**content)
