"""`intff predict`: classify image files with a trained model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click
import numpy as np

from intff.commands.output import emit
from intff.errors import ImageError
from intff.images import from_file

_INVERT: dict[str, Literal["auto"] | bool] = {"auto": "auto", "true": True, "false": False}


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Folder of a trained model.")
@click.option(
    "--invert",
    type=click.Choice(list(_INVERT)),
    default="auto",
    show_default=True,
    help="Whether to invert dark-on-light images; auto decides by the background.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per image.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def predict(model: Path, invert: str, files: tuple[Path, ...], *, as_json: bool) -> None:
    """Classify image FILES; the label with the highest goodness or probability wins."""
    from intff.model import load_model  # noqa: PLC0415 -- loads torch; usage errors should be reported at once

    loaded = load_model(model)
    shape = loaded.spec.dataset.image_shape
    images = []
    for file in files:
        try:
            images.append(from_file(file.read_bytes(), shape, invert=_INVERT[invert]))
        except ImageError as error:
            msg = f"{file}: {error}"
            raise ImageError(msg, field=str(file)) from error
    for file, prediction in zip(files, loaded.predict(np.stack(images)), strict=True):
        if as_json:
            emit(file=str(file), **asdict(prediction))
            continue
        scores = prediction.goodness if prediction.probabilities is None else prediction.probabilities
        assert scores is not None
        row = "  ".join(f"{label}:{score:.2f}" for label, score in zip(loaded.labels, scores, strict=True))
        click.echo(f"{file}: {prediction.label}  (margin {prediction.margin:.2f})  {row}")
