"""The training, validation and test data of a run: the data set, split, corrupted and moved to the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intff import datasets, noise
from intff.spec import TrainSpec


@dataclass(frozen=True)
class TrainingData:
    """The data of a run; images are bytes, [images, channels, height, width], labels are class numbers, [images]."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    source: str
    """Where the data set came from."""


def load(
    spec: TrainSpec, device: torch.device, *, data_dir: Path | None = None, show_download: bool = False
) -> TrainingData:
    """Load a spec's data set, split it, and corrupt the training set.

    The validation and test images are never corrupted, so decisions and reported results refer to clean images.

    Raises:
        DatasetError: the data set is unavailable or damaged.
    """
    dataset = datasets.load(spec.dataset, data_dir=data_dir, progress=show_download)
    split = datasets.split(dataset, spec.dataset, spec.training.seed)
    rng = np.random.default_rng([spec.training.seed, noise.PURPOSE])
    images, labels = noise.corrupt(split.train_images, split.train_labels, spec.noise, rng, classes=len(dataset.labels))

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return TrainingData(
        train_images=tensor(images),
        train_labels=tensor(labels.astype(np.int64)),
        validation_images=tensor(split.validation_images),
        validation_labels=tensor(split.validation_labels.astype(np.int64)),
        test_images=tensor(split.test_images),
        test_labels=tensor(split.test_labels.astype(np.int64)),
        source=dataset.source,
    )
