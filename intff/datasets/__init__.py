"""Loads the data sets, as images of bytes with labels, and splits them into training, validation and test sets."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intff.datasets.digits import load_digits
from intff.datasets.files import load_files
from intff.spec.dataset import Digits, FashionMnist, Kmnist, Mnist

__all__ = ["Dataset", "Split", "load", "split"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as published; images are bytes, [N, C, H, W], labels [N]."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes
    labels: tuple[str, ...]
    """Class names"""
    source: str
    """Human-readable description of where the data came from"""


@dataclass(frozen=True, eq=False)
class Split:
    """A data set as used by a run; images are bytes, [N, C, H, W], labels [N]."""

    train_images: Bytes
    train_labels: Bytes
    validation_images: Bytes
    validation_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def load(
    dataset_spec: Mnist | FashionMnist | Kmnist | Digits, *, data_dir: Path | None = None, progress: bool = False
) -> Dataset:
    """Load a data set from the user's folder, from the cache, or by download.

    Args:
        dataset_spec: the data set; its sizes affect only `split`.
        data_dir: a folder with the IDX files, or with one folder per data set; None means the environment
            variable INTFF_DATA_DIR. Nothing in it is ever modified.
        progress: draw a progress bar on standard error while downloading.

    Raises:
        DatasetCorrupt: the contents of a file in the user's folder are wrong.
        DatasetUnavailable: the files were not found and could not be downloaded.
        MissingExtra: the data set needs a package that is not installed.
    """
    if isinstance(dataset_spec, Digits):
        images, labels, source = load_digits()
        first = dataset_spec.train_images
        return Dataset(images[:first], labels[:first], images[first:], labels[first:], dataset_spec.labels, source)
    arrays, source = load_files(dataset_spec.kind, data_dir, progress=progress)
    train_images, train_labels, test_images, test_labels = arrays
    return Dataset(
        train_images=train_images[:, np.newaxis],  # [N, 1, H, W]
        train_labels=train_labels,
        test_images=test_images[:, np.newaxis],
        test_labels=test_labels,
        labels=dataset_spec.labels,
        source=source,
    )


def split(dataset: Dataset, dataset_spec: Mnist | FashionMnist | Kmnist | Digits, seed: int) -> Split:
    """Hold out a validation set from the training files, and draw the training set from the rest.

    The same seed gives the same validation set for every `train_size`, and a smaller training
    set is a subset of a larger one. Images keep the order of the files.
    """
    rng = np.random.default_rng([seed, zlib.crc32(b"validation split")])
    drawn = rng.permutation(len(dataset.train_labels))
    held_out, rest = np.split(drawn, [dataset_spec.validation_size])
    validation, train = np.sort(held_out), np.sort(rest[: dataset_spec.train_size])
    return Split(
        train_images=dataset.train_images[train],
        train_labels=dataset.train_labels[train],
        validation_images=dataset.train_images[validation],
        validation_labels=dataset.train_labels[validation],
        test_images=dataset.test_images,
        test_labels=dataset.test_labels,
    )
