"""The digits data set bundled with scikit-learn, which needs no download."""

from __future__ import annotations

import gzip
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intff.errors import MissingExtra

_FILE = "datasets/data/digits.csv.gz"


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    """Load all 1,797 images in the original order, [1797, 1, 8, 8], their labels, and their source.

    The pixel values, 0 to 16, are scaled to 0 to 255.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        msg = "the data set digits is part of scikit-learn, which is not installed: pip install 'intff[train]'"
        raise MissingExtra(msg)
    # Read from its file directly: importing scikit-learn takes ten times as long as reading the digits.
    with gzip.open(Path(package.origin).parent / _FILE, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # [1797, 64 values and the label]
    images = np.rint(table[:, :64].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return images, table[:, 64].copy(), f"scikit-learn {version('scikit-learn')}"
