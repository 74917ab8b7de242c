"""`intff train`: runs one training run in this process."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intff.commands.figure_file import FigureFile, image_of
from intff.commands.output import emit
from intff.commands.progress_bar import TrainingBar
from intff.commands.spec_options import spec_data, spec_options
from intff.folders import require_possible
from intff.plots import figure3, require_matplotlib
from intff.progress import EpochEnd, EpochMetrics, Event, Finished, Result, Started, Step
from intff.spec import BYTES_PER_PARAMETER, Limits, TrainSpec, read_spec, require_within

if TYPE_CHECKING:
    from intff.trainer import Trainer


@click.command()
@spec_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the model's files; must be new or empty.")
@click.option("--plot", type=FigureFile(), help="Plot losses, goodness and accuracy over the epochs to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def train(out: Path | None, plot: Path | None, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 -- see spec_options
    """Train a network and report its test accuracy."""
    spec = read_spec(spec_data(**options))
    _require_memory(spec)
    if out is not None:
        _require_possible(out)
    if plot is not None:
        require_matplotlib()
    with TrainingBar() as bar:
        trainer, result, epochs = _run(spec, bar, as_json=as_json)
    saved: Path | None = None
    try:
        if out is not None:
            trainer.export_model(out)
            saved = out
    finally:  # report the result even if writing the model fails
        _tell(result, saved, as_json=as_json)
        if plot is not None:
            _draw(plot, spec, epochs, result)
            if not as_json:
                click.echo(f"the figure is in {plot}")


def _require_memory(spec: TrainSpec) -> None:
    """Refuse a run that does not fit in this machine's memory; the default `Limits` protect a shared service."""
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not available on this system
        return
    require_within(spec, Limits(max_parameters=available // BYTES_PER_PARAMETER, max_memory_bytes=available))


def _require_possible(out: Path) -> None:
    """Check before training that the folder, which is created afterwards, can be created."""
    try:
        require_possible(out)
    except OSError as error:
        why = str(error) if error.strerror is None else f"{out} cannot be created: {error.strerror.lower()}"
        msg = f"{why}; choose another --out"
        raise click.BadParameter(msg, param_hint="--out") from error


def _tell(result: Result, saved: Path | None, *, as_json: bool) -> None:
    if as_json:
        emit(event="finished", model=None if saved is None else str(saved), **asdict(result))
        return
    click.echo(f"test accuracy {result.test_accuracy:.2%} after {result.train_seconds:.1f} s of training")
    if saved is not None:
        click.echo(f"the model is in {saved}")


def _draw(file: Path, spec: TrainSpec, epochs: list[EpochMetrics], result: Result) -> None:
    note = f"test accuracy {100 * result.test_accuracy:.2f} %"
    metrics = [asdict(each) for each in epochs]
    file.write_bytes(figure3(metrics, spec=spec.model_dump(mode="json"), note=note, image=image_of(file)))


def _run(spec: TrainSpec, bar: TrainingBar, *, as_json: bool) -> tuple[Trainer, Result, list[EpochMetrics]]:
    from intff.trainer import Trainer  # noqa: PLC0415 -- loads torch; usage errors should be reported at once

    trainer = Trainer(spec, show_download=True)
    result: Result | None = None
    epochs: list[EpochMetrics] = []
    for event in trainer.run():
        _show(event, bar, as_json=as_json)
        if isinstance(event, Finished):
            result = event.result
        elif isinstance(event, EpochEnd):
            epochs.append(event.metrics)
    assert result is not None
    return trainer, result, epochs


def _show(event: Event, bar: TrainingBar, *, as_json: bool) -> None:
    match event:
        case Started():
            bar.say(
                f"{event.train_images:,} images from {event.dataset_source}, "
                f"{event.parameters:,} parameters, on {event.device}"
            )
            if as_json:
                emit(event="started", **asdict(event))
        case Step():
            bar.update(
                epoch=event.epoch,
                epochs=event.epochs,
                fraction=event.fraction,
                samples_per_second=event.samples_per_second,
                eta_seconds=event.eta_seconds,
            )
        case EpochEnd(metrics):
            bar.update(
                epoch=metrics.epoch,
                epochs=event.epochs,
                fraction=metrics.epoch / event.epochs,
                samples_per_second=metrics.samples_per_second,
                eta_seconds=event.eta_seconds,
                validation_accuracy=metrics.validation_accuracy,
            )
            if as_json:
                emit(event="epoch", **asdict(metrics))
