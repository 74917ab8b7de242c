"""How training images are corrupted: three kinds of damage, and the paper's mixture of them."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

PURPOSE = zlib.crc32(b"training noise")  # beside the spec's seed, it seeds a generator that nothing else shares
PAPER_SIGMA = 0.1  # of the 0..1 scale, in the published experiments


def corrupt(
    images: Bytes,
    labels: Bytes,
    kind: Literal["none", "paper_mixture"],
    rng: np.random.Generator,
    classes: int,
) -> tuple[Bytes, Bytes]:
    """Corrupt a training set (paper section 5.1 and Figure 4, the numbers from the published experiments).

    `paper_mixture` has four equal shares. Of the given images a third, drawn at random, gets
    Gaussian noise, another third loses a random number of bottom rows, and the last stays as it
    is; to them it adds as many images of nothing but noise, with random labels, as a third.
    What three does not divide stays clean.

    Args:
        images: [N, C, H, W]; left unchanged.
        labels: [N].
        kind: `none` gives back the very arrays that came in.
        rng: draws everything.
        classes: random labels are below it.

    Returns:
        Images and labels, [N + N // 3, ...] for the mixture. The given ones keep their order and
        the pure noise comes last: nothing is shuffled here, since training shuffles every epoch.
    """
    if kind == "none":
        return images, labels
    share = len(images) // 3
    drawn = rng.permutation(len(images))
    noisy, cut = drawn[:share], drawn[share : 2 * share]
    noise, noise_labels = pure_noise(images, share, rng, classes)
    corrupted = np.concatenate([images, noise])  # [N + share, C, H, W]
    corrupted[noisy] = gaussian(images[noisy], rng)
    corrupted[cut] = missing_rows(images[cut], rng)
    return corrupted, np.concatenate([labels, noise_labels])


def gaussian(images: Bytes, rng: np.random.Generator, sigma: float = PAPER_SIGMA) -> Bytes:
    """Add Gaussian noise to every pixel, and clip to what a byte holds.

    Args:
        images: [N, C, H, W].
        rng: draws the noise.
        sigma: standard deviation, where 1 is the span from black to white.
    """
    return _as_bytes(images + _normal(images.shape, rng, sigma))


def missing_rows(images: Bytes, rng: np.random.Generator) -> Bytes:
    """Set the bottom rows of each image to zero: from one row to all but one, each as likely.

    Args:
        images: [N, C, H, W].
        rng: draws how many rows each image loses.
    """
    height = images.shape[2]
    lost = rng.integers(1, height, size=len(images)) if height > 1 else np.zeros(len(images), np.int64)
    kept = np.arange(height) < (height - lost)[:, np.newaxis]  # [N, H]
    return np.where(kept[:, np.newaxis, :, np.newaxis], images, np.uint8(0))


def pure_noise(
    images: Bytes, count: int, rng: np.random.Generator, classes: int, sigma: float = PAPER_SIGMA
) -> tuple[Bytes, Bytes]:
    """Make images of Gaussian noise around the mean pixel of others, with labels drawn at random.

    Args:
        images: the others, [N, C, H, W].
        count: how many to make.
        rng: draws the pixels and the labels.
        classes: labels are below it.
        sigma: standard deviation, where 1 is the span from black to white.
    """
    mean = np.float32(images.mean()) if images.size else np.float32(0)
    noise = _as_bytes(mean + _normal((count, *images.shape[1:]), rng, sigma))
    return noise, rng.integers(classes, size=count, dtype=np.uint8)


def _normal(shape: tuple[int, ...], rng: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= np.float32(255 * sigma)
    return noise


def _as_bytes(values: NDArray[np.float32]) -> Bytes:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
