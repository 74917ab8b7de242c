"""`intff models`: list, show, alias, download and query the models of a running service."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click

from service.commands.connection import Connection, columns, connected, facts, moment, percent

_PAGE = 100
_IMAGE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def models() -> None:
    """Use the models of a running service; MODEL is an id or an alias, and `latest` is the newest."""


@models.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@connected
def list_models(connection: Connection, limit: int) -> None:
    """List models, newest first."""
    with connection.client() as client:
        found = islice(client.models(page=min(limit, _PAGE)), limit)
        if connection.as_json:
            for model in found:
                connection.answer(model)
            return
        rows = [_row(model) for model in found]
    columns(("model", "algorithm", "dataset", "test accuracy", "created", "aliases"), rows)


@models.command()
@click.argument("model")
@connected
def show(connection: Connection, model: str) -> None:
    """Show one model."""
    with connection.client() as client:
        found = client.model(model)
    if connection.as_json:
        connection.answer(found)
        return
    facts(
        [
            ("model", found["id"]),
            ("aliases", ", ".join(found["aliases"]) or None),
            ("job", found["job_id"]),
            ("algorithm", found["algorithm"]),
            ("classifier", found["classifier"]),
            ("dataset", found["spec"]["dataset"]["kind"]),
            ("parameters", f"{found['parameters']:,}"),
            ("hidden units", str(found["units"])),
            ("test accuracy", percent(found["result"]["test_accuracy"])),
            ("created", moment(found["created_at"])),
            *((entry["name"], f"{entry['bytes']:,} bytes  {entry['sha256']}") for entry in found["artifacts"]),
        ]
    )


@models.command()
@click.argument("alias")
@click.argument("model")
@connected
def alias(connection: Connection, alias: str, model: str) -> None:
    """Point ALIAS at a model."""
    with connection.client() as client:
        found = client.set_alias(alias, model)
    if connection.as_json:
        connection.answer(found)
    else:
        click.echo(f"{found['alias']} is {found['model']}", err=True)


@models.command()
@click.argument("model")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder (default: the model's id).")
@click.option("--file", "names", multiple=True, help="Only this file; may be given several times.")
@connected
def download(connection: Connection, model: str, out: Path | None, names: tuple[str, ...]) -> None:
    """Download a model's files, in the form that `intff predict --model` reads."""
    with connection.client() as client:
        found = client.model(model)
        folder = out or Path(found["id"])
        folder.mkdir(parents=True, exist_ok=True)
        # The manifest holds the hashes of the other files, and is not itself listed.
        for name in names or (*(entry["name"] for entry in found["artifacts"]), "manifest.json"):
            client.download(found["id"], name, folder / Path(name).name)
            if connection.as_json:
                connection.answer({"model": found["id"], "file": str(folder / name)})
    if not connection.as_json:
        click.echo(folder)


@models.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=_IMAGE)
@click.option(
    "--invert",
    type=click.Choice(["auto", "true", "false"]),
    default="auto",
    show_default=True,
    help="Invert images of dark ink on light paper; auto decides by the background.",
)
@connected
def predict(connection: Connection, model: str, images: tuple[Path, ...], invert: str) -> None:
    """Classify image files with a model."""
    with connection.client() as client, _named(images):
        answer = client.predict_files(model, images, invert=invert)
    predictions = zip(images, answer["predictions"], strict=True)
    if connection.as_json:
        for image, prediction in predictions:
            connection.answer({"file": str(image), "model": answer["model"], **prediction})
        return
    rows = []
    for image, prediction in predictions:
        scores = [f"{score:.2f}" for score in _scores(prediction)]
        rows.append((str(image), prediction["label"], f"{prediction['margin']:.2f}", *scores))
    columns(("file", "label", "margin", *answer["labels"]), rows)


def _scores(prediction: dict[str, Any]) -> list[float]:
    """What decided: the softmax layer's probabilities if there are any, else the goodness."""
    scores: list[float] = prediction.get("probabilities") or prediction["goodness"]
    return scores


@contextmanager
def _named(images: Sequence[Path]) -> Iterator[None]:
    """Put the file's name into an error message, where the service only knows its position."""
    from service.client import ApiError  # noqa: PLC0415 -- httpx would slow `intff --help` down

    try:
        yield
    except ApiError as error:
        message = re.sub(r"\bimages\.(\d+)\b", lambda place: str(images[int(place[1])]), str(error))
        raise ApiError(message, code=error.code, status=error.status) from error


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["id"],
        model["algorithm"],
        model["spec"]["dataset"]["kind"],
        percent(model["result"]["test_accuracy"]) or "",
        moment(model["created_at"]) or "",
        ", ".join(model["aliases"]),
    )
