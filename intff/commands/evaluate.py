"""`intff evaluate`: the accuracy of a trained model on a data set's test images."""

from __future__ import annotations

from pathlib import Path

import click

from intff.commands.output import emit
from intff.errors import SpecError
from intff.spec import read_spec


@click.command()
@click.option("--model", type=click.Path(path_type=Path), required=True, help="Folder of a trained model.")
@click.option("--dataset", help="A data set other than the model's own, with the same labels and image shape.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(model: Path, dataset: str | None, *, as_json: bool) -> None:
    """Measure a model's accuracy on the test images of a data set."""
    import torch  # noqa: PLC0415 -- slow to load; usage errors should be reported at once

    from intff import datasets  # noqa: PLC0415
    from intff.inference import accuracy  # noqa: PLC0415
    from intff.model import load_model  # noqa: PLC0415

    loaded = load_model(model)
    chosen = loaded.spec.dataset if dataset is None else read_spec({"dataset": dataset}).dataset
    if chosen.image_shape != loaded.spec.dataset.image_shape:
        msg = (
            f"the model takes images of shape {list(loaded.spec.dataset.image_shape)}, "
            f"but those of {chosen.kind} have shape {list(chosen.image_shape)}"
        )
        raise SpecError(msg, field="dataset")
    if chosen.labels != loaded.spec.dataset.labels:
        msg = (
            f"the model's labels are {', '.join(loaded.labels)}, "
            f"but those of {chosen.kind} are {', '.join(chosen.labels)}: the accuracy would be meaningless"
        )
        raise SpecError(msg, field="dataset")
    data = datasets.load(chosen, progress=True)
    share = accuracy(loaded.network, torch.tensor(data.test_images), torch.tensor(data.test_labels).long())
    if as_json:
        emit(dataset=chosen.kind, test_images=len(data.test_labels), test_accuracy=share)
    else:
        click.echo(f"test accuracy {share:.2%} on {len(data.test_labels):,} images of {chosen.kind}")
