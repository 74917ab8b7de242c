"""The command line options that define a training spec, shared by all commands that take one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, Any, TypeVar

import click

from intff.errors import SpecError
from intff.presets import PRESETS, merge

_PARTS = ("dataset", "noise", "architecture", "algorithm")
_TRAINING = ("epochs", "batch_size", "learning_rate", "jitter", "seed", "device")

F = TypeVar("F", bound=Callable[..., Any])


def spec_options(command: F) -> F:
    """Add the spec options to a click command, which passes their values to `spec_data` as keywords."""
    options = [
        click.option("--spec", "spec_file", type=click.File("rb"), help="A spec as JSON; - reads standard input."),
        click.option("--preset", type=click.Choice(list(PRESETS)), help="A named spec; the other options override it."),
        click.option("--architecture", help="For example '784,(200,200,200),(50,50)'."),
        click.option("--algorithm", help="intff, ff or bp."),
        click.option("--dataset", help="mnist, fashion_mnist, kmnist or digits."),
        click.option(
            "--noise",
            help="none, paper_mixture, gaussian, missing_rows, pure_noise, label_noise or mixture; set the amount with "
            "--set noise.share=0.5",
        ),
        click.option("--epochs", type=int),
        click.option("--batch-size", type=int),
        click.option("--learning-rate", type=float),
        click.option("--jitter", type=int, help="Largest random shift of a training image, in pixels."),
        click.option("--seed", type=int),
        click.option("--device", help="auto, cpu or cuda."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="FIELD=VALUE",
            help="Set any field of the spec by its dotted path: --set algorithm.loss=symba --set noise.share=0.5",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def spec_data(
    spec_file: IO[bytes] | None,
    preset: str | None,
    settings: tuple[str, ...],
    **given: object,
) -> dict[str, Any]:
    """The spec that the options describe, not yet validated.

    Options override the file, and --set overrides everything.

    Raises:
        SpecError: the file is not a JSON object, or a setting is not of the form FIELD=VALUE.
    """
    data: dict[str, Any] = {}
    if spec_file is not None:
        try:
            data = json.load(spec_file, object_pairs_hook=_with_single_keys)
        except (ValueError, RecursionError) as error:
            msg = f"{spec_file.name} is not JSON: {error}"
            raise SpecError(msg) from error
        if not isinstance(data, dict):
            msg = f"{spec_file.name} must contain a training spec as a JSON object, got {type(data).__name__}"
            raise SpecError(msg)
    over: dict[str, Any] = {name: given[name] for name in _PARTS if given[name] is not None}
    training = {name: given[name] for name in _TRAINING if given[name] is not None}
    if training:
        over["training"] = training
    if preset is not None:
        over["preset"] = preset
    data = merge(data, over)
    for setting in settings:
        data = merge(data, _setting(setting))
    return data


def _with_single_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        msg = f"an object has the key {next(name for name in names if names.count(name) > 1)!r} twice"
        raise ValueError(msg)
    return data


def _setting(text: str) -> dict[str, Any]:
    """Parse `algorithm.theta=2` into nested dicts; a value that is not JSON is taken as a string."""
    path, equals, written = text.partition("=")
    if not equals or not all(step.isidentifier() for step in path.split(".")):
        msg = f"--set takes FIELD=VALUE, as in algorithm.loss=symba; got {text!r}"
        raise SpecError(msg)
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        value = written
    for step in reversed(path.split(".")):
        value = {step: value}
    nested: dict[str, Any] = value
    return nested
