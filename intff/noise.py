"""Corruption of training images: Gaussian noise, missing rows, pure noise, wrong labels, and mixtures of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intff.spec.noise import AnyNoise

Bytes = NDArray[np.uint8]

PURPOSE = zlib.crc32(b"training noise")  # combined with the spec's seed, it seeds a generator used for nothing else
_AT_ONCE = 1000  # images held as floats at the same time; it does not affect the random numbers


def corrupt(
    images: Bytes, labels: Bytes, noise: AnyNoise, rng: np.random.Generator, classes: int
) -> tuple[Bytes, Bytes]:
    """Corrupt a training set (paper section 5.1 and Figure 4, with values from the published experiments).

    Images are drawn at random for each corruption, and none has two. Pure noise is added to the
    given images, as in the paper; the other corruptions modify them, and the rest stay clean.

    Args:
        images: [N, C, H, W]; not modified.
        labels: [N]; not modified.
        noise: the corruption; if it corrupts nothing, the given arrays themselves are returned.
        rng: draws everything.
        classes: number of classes.

    Returns:
        Images and labels, [N + pure noise, ...]. The given ones keep their order and pure noise
        comes last: nothing is shuffled here, since training shuffles every epoch.
    """
    mixture = noise.as_mixture()
    counts = mixture.counts(len(images))
    if not any(counts):
        return images, labels
    # The order of the draws is fixed, so that the same seed always gives the same paper mixture, bit for bit.
    drawn = rng.permutation(len(images))
    noisy, cut, flipped, _ = np.split(drawn, np.cumsum([counts.gaussian, counts.missing_rows, counts.label_noise]))
    added, added_labels = pure_noise(images, counts.pure_noise, rng, classes, mixture.pure_noise_sigma)
    corrupted = np.concatenate([images, added])  # [N + pure noise, C, H, W]
    corrupted[noisy] = gaussian(images[noisy], rng, mixture.gaussian_sigma)
    corrupted[cut] = missing_rows(images[cut], rng, mixture.max_rows)
    corrupted_labels = np.concatenate([labels, added_labels])
    corrupted_labels[flipped] = wrong_labels(labels[flipped], rng, classes, mixture.flips)
    return corrupted, corrupted_labels


def gaussian(images: Bytes, rng: np.random.Generator, sigma: float) -> Bytes:
    """Add Gaussian noise to every pixel, and clip to the range of a byte.

    Args:
        images: [N, C, H, W].
        rng: draws the noise.
        sigma: standard deviation, where 1 is the range from black to white.
    """
    noisy = np.empty_like(images)
    for part in _parts(len(images)):
        noisy[part] = _as_bytes(images[part] + _normal(images[part].shape, rng, sigma))
    return noisy


def missing_rows(images: Bytes, rng: np.random.Generator, most: int | None = None) -> Bytes:
    """Set the bottom rows of each image to zero; their number is uniform from 1 to `most`.

    Args:
        images: [N, C, H, W].
        rng: draws how many rows each image loses.
        most: the maximum, at most the height minus one; None means the height minus one.
    """
    height = images.shape[2]
    most = height - 1 if most is None else most
    lost = rng.integers(1, most + 1, size=len(images)) if most > 0 else np.zeros(len(images), np.int64)
    kept = np.arange(height) < (height - lost)[:, np.newaxis]  # [N, H]
    return np.where(kept[:, np.newaxis, :, np.newaxis], images, np.uint8(0))


def pure_noise(images: Bytes, count: int, rng: np.random.Generator, classes: int, sigma: float) -> tuple[Bytes, Bytes]:
    """Create images of Gaussian noise around the mean pixel of given images, with random labels.

    Args:
        images: the given images, [N, C, H, W].
        count: how many to create.
        rng: draws the pixels and the labels.
        classes: number of classes.
        sigma: standard deviation, where 1 is the range from black to white.
    """
    mean = np.float32(images.mean()) if images.size else np.float32(0)
    noise = np.empty((count, *images.shape[1:]), np.uint8)
    for part in _parts(count):
        noise[part] = _as_bytes(mean + _normal(noise[part].shape, rng, sigma))
    return noise, rng.integers(classes, size=count, dtype=np.uint8)


def wrong_labels(labels: Bytes, rng: np.random.Generator, classes: int, flips: Literal["uniform", "pair"]) -> Bytes:
    """Replace every label with a wrong one.

    Args:
        labels: [N].
        rng: draws the new labels for `uniform`.
        classes: number of classes.
        flips: `uniform` draws any wrong label with equal probability; `pair` takes the next, and 0 after the last.
    """
    steps = rng.integers(1, classes, size=len(labels)) if flips == "uniform" else 1
    return ((labels + steps) % classes).astype(np.uint8)


def _parts(count: int) -> Iterator[slice]:
    """Yield slices that cover `count` images in small chunks, to limit the memory for floats."""
    for start in range(0, count, _AT_ONCE):
        yield slice(start, start + _AT_ONCE)


def _normal(shape: tuple[int, ...], rng: np.random.Generator, sigma: float) -> NDArray[np.float32]:
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= np.float32(255 * sigma)
    return noise


def _as_bytes(values: NDArray[np.float32]) -> Bytes:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
