"""A trained model in memory: train, predict, save and load."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from intff.build import build_network
from intff.errors import CheckpointError, ImageError
from intff.export import Manifest, export_model
from intff.folders import sha256
from intff.inference import score
from intff.networks import Network
from intff.predictions import Outputs, Prediction, predictions
from intff.progress import Event, Finished, Result
from intff.spec import TrainSpec, read_spec
from intff.trainer import Trainer

Images = NDArray[Any] | torch.Tensor | Sequence[Any]


@dataclass(frozen=True)
class Model:
    """A trained network with its spec and its results.

    The network is in evaluation mode: batch normalisation uses the running statistics, not those of the batch.
    """

    spec: TrainSpec
    network: Network
    result: Result

    def __post_init__(self) -> None:
        self.network.eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of every list of scores."""
        return self.spec.dataset.labels

    def predict(self, images: Images) -> list[Prediction]:
        """Classify images.

        Args:
            images: integers from 0 to 255 or floats from 0 to 1, as an array, a tensor or nested lists,
                [images, channels, height, width], [images, pixels] or, with one channel, [images, height, width].

        Returns:
            One prediction per image, in order.

        Raises:
            ImageError: the images do not have the model's shape, or a value is out of range.
        """
        try:
            images = np.asarray(images.detach().cpu() if isinstance(images, torch.Tensor) else images)
        except ValueError as error:  # lists of different lengths
            msg = f"the images do not form an array: {error}"
            raise ImageError(msg, field="images") from error
        shape = self.spec.dataset.image_shape
        accepted = {shape, (prod(shape),)} | ({shape[1:]} if shape[0] == 1 else set())
        if images.ndim == 0 or len(images) == 0 or images.shape[1:] not in accepted:
            msg = f"the model takes images of shape {list(shape)}, any number of them at once; got {list(images.shape)}"
            if images.shape in accepted:
                msg += "; put a single image in a list of its own, or write image[None]"
            raise ImageError(msg, field="images")
        pixels = _pixels(images)
        device = next(self.network.parameters()).device
        scores = score(self.network, torch.tensor(pixels, device=device).reshape(-1, *shape))
        goodness, unit_goodness, probability, softmax = None, None, None, None
        if scores.goodness is not None and scores.unit_goodness is not None:
            theta = getattr(self.spec.algorithm, "theta", 0.0)
            goodness, unit_goodness = scores.goodness.cpu().numpy(), scores.unit_goodness.cpu().numpy()
            probability = torch.sigmoid(scores.goodness - theta).cpu().numpy()
        if scores.logits is not None:
            softmax = torch.softmax(scores.logits, dim=1).cpu().numpy()
        return predictions(Outputs(goodness, unit_goodness, probability, softmax), self.labels)

    def evaluate(self, images: Images, labels: NDArray[Any]) -> float:
        """The fraction of images that are classified correctly.

        Args:
            images: as `predict` takes them.
            labels: each image's class as an index into `self.labels`, [images].

        Raises:
            ImageError: as `predict`.
            ValueError: the numbers of images and labels differ.
        """
        found = self.predict(images)
        if len(labels) != len(found):
            msg = f"each image needs a label, got {len(found)} images and {len(labels)} labels"
            raise ValueError(msg)
        right = sum(each.label == self.labels[int(label)] for each, label in zip(found, labels, strict=True))
        return right / len(found)

    def save(self, folder: Path | str) -> Manifest:
        """Write the model's files to a new folder.

        Raises:
            FileExistsError: the folder exists and is not empty.
        """
        return export_model(Path(folder), self.spec, self.network, self.result)


def train(
    spec: TrainSpec | Mapping[str, Any],
    *,
    on_event: Callable[[Event], None] | None = None,
    data_dir: Path | None = None,
) -> Model:
    """Train a model from start to finish.

    Args:
        spec: a complete spec, or only the fields that differ from the defaults.
        on_event: called with each progress event of the run.
        data_dir: where to look for the data set first.

    Raises:
        IntffError: the spec cannot be run, the data set is unavailable, or training failed.
    """
    trainer = Trainer(spec, data_dir=data_dir)
    result: Result | None = None
    for event in trainer.run():
        if on_event is not None:
            on_event(event)
        if isinstance(event, Finished):
            result = event.result
    assert result is not None
    return Model(trainer.spec, trainer.network, result)


def load_model(folder: Path | str) -> Model:
    """Load a saved model onto the CPU, checking each file it reads against the manifest.

    Raises:
        CheckpointError: a file is missing or does not match the manifest.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["version"] != 1:
            msg = f"{folder} has a manifest of version {manifest['version']!r}; this version of intff reads version 1"
            raise CheckpointError(msg)
        for name in ("spec.json", "weights.safetensors"):
            if sha256(folder / name) != manifest["files"][name]["sha256"]:
                msg = f"{folder / name} is damaged: its SHA-256 does not match manifest.json"
                raise CheckpointError(msg)
        spec = read_spec(json.loads((folder / "spec.json").read_bytes()))
        network = build_network(spec)
        network.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
        return Model(spec, network, Result(**manifest["result"]))
    except KeyError as error:
        msg = f"{folder} does not contain a readable model: manifest.json lacks {error}"
        raise CheckpointError(msg) from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        msg = f"{folder} does not contain a readable model: {error}"
        raise CheckpointError(msg) from error


def _pixels(images: NDArray[Any]) -> NDArray[Any]:
    """Images as bytes or as floats from 0 to 1.

    The dtype's kind decides, not its width: NumPy's default integers are wider than a byte.
    """
    is_whole = images.dtype.kind in "iu"
    top = 255 if is_whole else 1
    # NaN fails both comparisons.
    if images.dtype.kind not in "iuf" or not (images.min() >= 0 and images.max() <= top):
        msg = f"pixels must be integers from 0 to 255 or floats from 0 to 1; got {images.dtype}"
        if images.dtype.kind in "iuf":
            msg = f"{msg} from {images.min()} to {images.max()}"
        raise ImageError(msg, field="images")
    return images.astype(np.uint8 if is_whole else np.float32)
