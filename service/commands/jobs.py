"""`intff jobs`: submit, list, show, follow, plot, cancel, pause and resume the training jobs of a running service."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from intff.commands.figure_file import FigureFile, image_of
from intff.commands.spec_options import spec_data, spec_options
from service.commands.connection import Connection, columns, connected, facts, moment, percent

if TYPE_CHECKING:
    from service.client import Client, Job

_PAGE = 100


@click.group()
def jobs() -> None:
    """Train on a running service (`intff serve` starts one)."""


@jobs.command()
@spec_options
@click.option("--name", help="A human-readable name for the job.")
@click.option("--priority", type=click.IntRange(0, 9), help="Jobs with a higher number run first; 0 by default.")
@click.option("--watch", is_flag=True, help="Follow the job to its end.")
@connected
def submit(connection: Connection, name: str | None, priority: int | None, watch: bool, **options: Any) -> None:  # noqa: ANN401 -- the spec's options
    """Submit a training job."""
    spec = spec_data(**options)
    with connection.client() as client:
        job = client.submit(spec, name=name, priority=priority)
        if connection.as_json:
            connection.answer(job)
        elif not watch:
            click.echo(job["id"])
            click.echo(f"follow it with: intff jobs watch {job['id']}", err=True)
        else:
            click.echo(job["id"], err=True)
        if watch:
            _follow(connection, client, job["id"])


@jobs.command("list")
@click.option("--status", help="Only jobs with this status.")
@click.option("--name", help="Only jobs with this name.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@connected
def list_jobs(connection: Connection, status: str | None, name: str | None, limit: int) -> None:
    """List jobs, newest first."""
    with connection.client() as client:
        found = islice(client.jobs(status=status, name=name, page=min(limit, _PAGE)), limit)
        if connection.as_json:
            for job in found:
                connection.answer(job)
            return
        rows = [_row(job) for job in found]
    columns(("job", "status", "progress", "accuracy", "created", "name"), rows)


@jobs.command()
@click.argument("job")
@connected
def show(connection: Connection, job: str) -> None:
    """Show one job."""
    with connection.client() as client:
        _show(connection, client.job(job))


@jobs.command()
@click.argument("job")
@connected
def watch(connection: Connection, job: str) -> None:
    """Follow a job to its end; stopping the watch does not stop the job."""
    with connection.client() as client:
        _follow(connection, client, job)


@jobs.command()
@click.argument("job")
@click.option("--out", type=FigureFile(), help="The file to write the figure to (default: JOB.svg in this folder).")
@connected
def plot(connection: Connection, job: str, out: Path | None) -> None:
    """Draw a job's losses, goodness and accuracy over its epochs so far."""
    file = out or Path(f"{job}.svg")
    image = image_of(file)
    with connection.client() as client:
        figure = client.plot(job, image)
    file.write_bytes(figure)
    if connection.as_json:
        connection.answer({"job": job, "file": str(file), "bytes": len(figure)})
    else:
        click.echo(f"the figure is in {file}", err=True)


@jobs.command()
@click.argument("job")
@connected
def cancel(connection: Connection, job: str) -> None:
    """Cancel a job that is queued, running or paused."""
    _move(connection, job, "cancel")


@jobs.command()
@click.argument("job")
@connected
def pause(connection: Connection, job: str) -> None:
    """Pause a job, at the end of its epoch if that is near; `resume` continues from its last checkpoint."""
    _move(connection, job, "pause")


@jobs.command()
@click.argument("job")
@connected
def resume(connection: Connection, job: str) -> None:
    """Resume a paused job."""
    _move(connection, job, "resume")


def _move(connection: Connection, job_id: str, move: Literal["cancel", "pause", "resume"]) -> None:
    with connection.client() as client:
        job = client.move(job_id, move)
    if connection.as_json:
        connection.answer(job)
    else:
        # A running job obeys within a few steps, and the answer does not wait for that.
        pending = {"cancel": " and will be cancelled", "pause": " and will be paused"}.get(move, "")
        click.echo(f"{job['id']} is {job['status']}{pending if job['status'] == 'running' else ''}", err=True)


def _follow(connection: Connection, client: Client, job_id: str) -> None:
    if connection.as_json:
        for event in client.events(job_id):
            connection.answer({"event": event.kind, **event.data})
    else:
        from service.commands.bar import JobBar  # noqa: PLC0415 -- rich would slow `intff --help` down

        with JobBar(client.job(job_id)["progress"]["epochs"]) as bar:
            for event in client.events(job_id):
                bar.show(event)
    job = client.job(job_id)
    _show(connection, job)
    if job["status"] != "succeeded":
        why = f": {job['error']['code']}: {job['error']['message']}" if job["error"] else ""
        message = f"the job {job['status'] if job['status'] != 'cancelled' else 'was cancelled'}{why}"
        raise click.ClickException(message)


def _show(connection: Connection, job: Job) -> None:
    if connection.as_json:
        connection.answer(job)
        return
    spec, result, error = job["spec"], job["result"] or {}, job["error"]
    seconds = result.get("train_seconds")
    facts(
        [
            ("job", job["id"]),
            ("name", job["name"]),
            ("status", job["status"]),
            ("waiting", job["progress"].get("waiting")),
            ("error", f"{error['code']}: {error['message']}" if error else None),
            ("algorithm", spec["algorithm"]["kind"]),
            ("architecture", _notation(spec)),
            ("dataset", spec["dataset"]["kind"]),
            ("noise", spec["noise"]["kind"]),
            ("epoch", f"{job['progress']['epoch']} of {job['progress']['epochs']}"),
            ("validation", percent((job["latest_metrics"] or {}).get("validation_accuracy"))),
            ("test accuracy", percent(result.get("test_accuracy"))),
            ("trained for", None if seconds is None else f"{seconds:.1f} s"),
            ("attempt", str(job["attempt"])),
            ("created", moment(job["created_at"])),
            ("started", moment(job["started_at"])),
            ("finished", moment(job["finished_at"])),
            ("model", job["model_id"]),
        ]
    )


def _row(job: Job) -> tuple[str, ...]:
    progress, result, metrics = job["progress"], job["result"] or {}, job["latest_metrics"] or {}
    accuracy = result.get("test_accuracy", metrics.get("validation_accuracy"))
    return (
        job["id"],
        job["status"],
        f"{progress['epoch']}/{progress['epochs']}",
        percent(accuracy) or "",
        moment(job["created_at"]) or "",
        job["name"] or "",
    )


def _notation(spec: dict[str, Any]) -> str:
    from math import prod  # noqa: PLC0415 -- only this answer needs them

    from intff.notation import write  # noqa: PLC0415

    shape, units = spec["architecture"]["input_shape"], spec["architecture"]["units"]
    return write(prod(shape), units)
