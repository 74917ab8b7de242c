"""`intff reproduce`: repeats the experiments behind the paper's tables and figures, locally or on a running service."""

from __future__ import annotations

import os
from pathlib import Path

import click

from intff.commands.output import emit
from intff.errors import IntffError
from intff.reproduce.plan import EXPERIMENTS, Row
from intff.reproduce.records import Outcome, Records, key
from intff.reproduce.runners import LocalRunner, remote_runner
from intff.reproduce.runs import Run, execute, pending, result_runs, tuning_runs
from intff.reproduce.summary import Summary, summaries


@click.command()
@click.argument("what", type=click.Choice([*EXPERIMENTS, "report"]))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder of the finished runs.",
)
@click.option("--only", multiple=True, metavar="ROW", help="Run only this row; may be repeated.")
@click.option("--seeds", type=click.IntRange(1, 100), help="Number of seeds for every row, instead of the plan's.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of parallel runs.")
@click.option("--url", help="Run as jobs of the service at this URL; INTFF_API_KEY gives its API key.")
@click.option(
    "--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True, help="Where `report` writes."
)
@click.option("--dry-run", is_flag=True, help="Only list which runs are finished and which are not.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def reproduce(
    what: str,
    out: Path,
    *,
    only: tuple[str, ...],
    seeds: int | None,
    jobs: int,
    url: str | None,
    docs: Path,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run the rows of a table or figure with several seeds each, and print the results next to the paper's.

    A finished run is saved and not repeated, so the command can be stopped and resumed at any time. `report`
    writes results.md and its figures from all finished runs.
    """
    if out.exists() and not out.is_dir():
        msg = f"{out} is a file; it must be a folder for the finished runs"
        raise click.BadParameter(msg, param_hint="--out")
    records = Records(out)
    if what == "report":
        if records.is_empty:
            msg = f"{out} contains no finished runs; --out must name the folder where `intff reproduce` saved them"
            raise click.ClickException(msg)
        from intff.reproduce.report import write_report  # noqa: PLC0415 -- loads matplotlib

        for file in write_report(records, docs):
            emit(event="written", file=str(file)) if as_json else click.echo(str(file))
        return
    rows = _rows(what, only)
    if dry_run:
        for run in [*tuning_runs(rows), *result_runs(rows, records, seeds)]:
            _tell_plan(run, records, as_json=as_json)
        later = sum(seeds or row.seeds for row in rows) - len(result_runs(rows, records, seeds))
        if later and not as_json:
            click.echo(f"and {later} runs with several seeds, once tuning has chosen their learning rates")
        return
    runner = remote_runner(url, os.environ.get("INTFF_API_KEY")) if url else LocalRunner()
    complete = True
    for is_tuning in (True, False):  # the results need the learning rates chosen by tuning
        todo = tuning_runs(rows) if is_tuning else result_runs(rows, records, seeds)
        click.echo(f"{len(todo)} runs, {len(pending(todo, records))} to go", err=True)
        complete &= execute(
            todo, records, runner, at_once=jobs, said=lambda run, end: _tell_end(run, end, as_json=as_json)
        )
    _tell_rows(summaries(rows, records), as_json=as_json)
    if not complete:
        raise click.exceptions.Exit(1)


def _rows(what: str, only: tuple[str, ...]) -> tuple[Row, ...]:
    rows = EXPERIMENTS[what].rows
    unknown = set(only) - {row.name for row in rows}
    if unknown:
        msg = f"{what} has no row {', '.join(sorted(unknown))}; it has {', '.join(row.name for row in rows)}"
        raise click.UsageError(msg)
    return tuple(row for row in rows if not only or row.name in only)


def _tell_plan(run: Run, records: Records, *, as_json: bool) -> None:
    done = records.find(run.spec) is not None
    if as_json:
        emit(event="planned", run=run.name, key=key(run.spec), done=done)
    else:
        click.echo(f"{'on record' if done else 'to run   '}  {run.name}")


def _tell_end(run: Run, end: Outcome | IntffError, *, as_json: bool) -> None:
    if isinstance(end, IntffError):
        error: dict[str, str] | None = {"code": end.code, "message": str(end)}
        result = None
    else:
        error, result = end.error, end.result
    if as_json:
        emit(event="ended", run=run.name, result=result, error=error)
    elif result is not None:
        shown = result.get("test_accuracy")
        tested = "" if shown is None else f"  test {100 * shown:.2f} %"
        click.echo(
            f"{run.name}: validation {100 * result['validation_accuracy']:.2f} %{tested}  "
            f"{result['train_seconds']:.0f} s",
            err=True,
        )
    else:
        click.echo(f"{run.name}: {error['code'] if error else 'failed'}: {error['message'] if error else ''}", err=True)


def _tell_rows(found: list[Summary], *, as_json: bool) -> None:
    for each in found:
        if as_json:
            emit(
                event="row",
                row=each.row.name,
                test_accuracy=each.test.mean,
                deviation=each.test.deviation,
                seeds=each.test.count,
                learning_rate=each.rate,
                train_seconds=each.seconds.mean,
                paper=each.row.paper,
            )
            continue
        spread = "" if each.test.deviation is None else f" s {100 * each.test.deviation:.2f}"
        paper = "" if each.row.paper is None else f"  paper {100 * each.row.paper:.2f}"
        click.echo(
            f"{each.row.name:28} {100 * each.test.mean:6.2f} %{spread:8} {each.test.count} seeds "
            f"{each.seconds.mean:6.0f} s{paper}"
        )
