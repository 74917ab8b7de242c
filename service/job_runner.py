"""`intff reproduce --url`: runs a spec as a job of a running service, found by the entry point `intff.job_runners`."""

from __future__ import annotations

import time

from intff.reproduce.records import Outcome, key
from intff.reproduce.runners import RunFailed
from intff.spec import TrainSpec
from service.client import ApiError, Client, Job

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""How long the service may be away before a run is given up; the job itself goes on there."""


class JobRunner:
    """Executes runs as jobs; a run that was submitted before is found again and not submitted twice."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key
        self._stopped = False

    def __call__(self, spec: TrainSpec, name: str) -> Outcome:
        """Submit the spec and wait for the job's end; see `intff.reproduce.runners.Runner`."""
        with Client(self._url, self._api_key) as client:
            try:
                job = client.submit(
                    spec.model_dump(mode="json"), name=f"reproduce: {name}", idempotency_key=f"reproduce-{key(spec)}"
                )
                job = self._wait(client, job)
                metrics = client.metrics(job["id"])
            except ApiError as error:
                raise RunFailed(str(error)) from error
        build = {"device": f"{self._url}, job {job['id']}"}
        if job["status"] == "succeeded":
            return Outcome(result=job["result"], metrics=metrics, build=build)
        failure = job["error"] or {"code": job["status"], "message": f"the job was {job['status']}"}
        if failure["code"] != "diverged":  # which it would do again
            msg = f"job {job['id']}: {failure['message']}"
            raise RunFailed(msg)
        return Outcome(result=None, metrics=metrics, error=failure, build=build)

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
            except ApiError:
                if time.monotonic() - last_heard > PATIENCE_SECONDS:
                    raise
        return job
