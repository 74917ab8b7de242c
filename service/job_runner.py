"""`intff reproduce --url`: runs a spec as a job of a running service, found by the entry point `intff.job_runners`."""

from __future__ import annotations

import time
from itertools import count

from intff.reproduce.records import Outcome, key
from intff.reproduce.runners import RunFailed
from intff.spec import TrainSpec
from service.client import ApiError, Client, Job

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""How long the service may be unreachable before a run is given up; the job itself continues there."""


class JobRunner:
    """Executes runs as jobs; a run that was submitted before is found again instead of submitted twice."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key
        self._stopped = False

    def __call__(self, spec: TrainSpec, name: str) -> Outcome:
        """Submit the spec and wait for the job's end; see `intff.reproduce.runners.Runner`."""
        with Client(self._url, self._api_key) as client:
            try:
                job = self._wait(client, _submitted(client, spec, name))
                metrics = client.metrics(job["id"])
            except ApiError as error:
                raise RunFailed(str(error)) from error
        build = {"job": job["id"]}
        if job["status"] == "succeeded":
            return Outcome(result=job["result"], metrics=metrics, build=build)
        if not _is_final(job):
            msg = f"job {job['id']}: {job['error']['message'] if job['error'] else 'it was cancelled'}"
            raise RunFailed(msg)
        return Outcome(result=None, metrics=metrics, error=job["error"], build=build)

    def stop(self) -> None:
        """Leave the jobs to the service; a later call finds them again."""
        self._stopped = True

    def _wait(self, client: Client, job: Job) -> Job:
        last_heard = time.monotonic()
        while not job["is_terminal"]:
            if self._stopped:
                msg = "stopped"
                raise RunFailed(msg)
            time.sleep(POLL_SECONDS)
            try:
                job = client.job(job["id"])
                last_heard = time.monotonic()
            except ApiError as error:
                if not error.is_temporary or time.monotonic() - last_heard > PATIENCE_SECONDS:
                    raise
        return job


def _submitted(client: Client, spec: TrainSpec, name: str) -> Job:
    """The job of an earlier call, or a new one if there is none or it ended without an outcome."""
    for number in count(1):
        job = client.submit(
            spec.model_dump(mode="json"),
            name=f"reproduce: {name}",
            idempotency_key=f"reproduce-{key(spec)}-{number}",
        )
        if not job["is_terminal"] or _is_final(job):
            return job
    raise AssertionError


def _is_final(job: Job) -> bool:
    """Whether a finished job would finish the same way again: it succeeded or diverged."""
    return job["status"] == "succeeded" or (job["error"] or {}).get("code") == "diverged"
