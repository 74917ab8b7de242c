"""Sources of negative data (paper section 3.3): other labels for the same image, or modified images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

HYBRID_BLURS = 6
"""Passes of a 3x3 mean filter over random pixels, which make the blobs of a mask about as large as strokes."""


def random_labels(labels: Tensor, count: int, generator: Generator) -> Tensor:
    """The author's negatives: shuffled labels of the images, about one in ten of which is the true label.

    Args:
        labels: true class numbers, [images].
        count: negatives for each image.
        generator: the source of randomness.

    Returns:
        Negative labels, [images, count].
    """
    columns = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(count)]
    return torch.stack(columns, dim=1)


def wrong_labels(labels: Tensor, count: int, classes: int, generator: Generator) -> Tensor:
    """Draw wrong labels, distinct for each image.

    Args:
        labels: true class numbers, [images].
        count: negatives for each image, at most `classes - 1`.
        classes: number of classes.
        generator: the source of randomness.

    Returns:
        Negative labels, [images, count].
    """
    keys = torch.rand((len(labels), classes - 1), generator=generator)
    steps = keys.argsort(dim=1)[:, :count] + 1  # distinct offsets of 1 to classes - 1, modulo classes
    return (labels.unsqueeze(1) + steps) % classes


def all_wrong_labels(labels: Tensor, classes: int) -> Tensor:
    """Every wrong label of each image, [images, classes - 1]; not random."""
    return (labels.unsqueeze(1) + torch.arange(1, classes)) % classes


def gumbel_noise(images: int, classes: int, generator: Generator) -> Tensor:
    """Gumbel noise for `hardest_labels`, [images, classes]."""
    return torch.empty((images, classes)).exponential_(generator=generator).log_().neg_()


def hardest_labels(goodness: Tensor, labels: Tensor, noise: Tensor, count: int) -> Tensor:
    """Sample wrong labels from the softmax of their goodness, without replacement (the Gumbel-top-k trick).

    Args:
        goodness: of every label, [batch, classes].
        labels: true class numbers, [batch, 1].
        noise: from `gumbel_noise`, [batch, classes].
        count: negatives for each image, at most `classes - 1`.

    Returns:
        Negative labels, [batch, count].
    """
    return (goodness + noise).scatter(1, labels, -torch.inf).topk(count, dim=1).indices


def hybrids(images: Tensor, generator: Generator) -> Tensor:
    """Mix each image with another one by a mask of random blobs (Hinton 2022, section 3.2).

    Args:
        images: bytes, [images, channels, height, width].
        generator: draws the masks and the other images.

    Returns:
        As many images, of the same type.
    """
    blobs = torch.rand((len(images), 1, *images.shape[2:]), generator=generator)
    for _ in range(HYBRID_BLURS):
        blobs = avg_pool2d(blobs, 3, stride=1, padding=1, count_include_pad=False)
    mask = (blobs > 0.5).to(images.device)  # noqa: PLR2004 -- the mean of uniform noise
    steps = torch.randint(1, max(len(images), 2), (1,), generator=generator)
    return torch.where(mask, images, images.roll(int(steps), dims=0))


def rotated(images: Tensor, generator: Generator) -> Tensor:
    """Rotate each image by 90, 180 or 270 degrees.

    Args:
        images: square, [images, channels, side, side].
        generator: draws the angles.

    Returns:
        As many images, of the same type.
    """
    turns = torch.randint(1, 4, (len(images), 1, 1, 1), generator=generator).to(images.device)
    found = images
    for turn in (1, 2, 3):
        found = torch.where(turns == turn, images.rot90(turn, (2, 3)), found)
    return found


def noisy_copies(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Add Gaussian noise to every pixel of each image.

    Args:
        images: bytes, [images, channels, height, width].
        sigma: standard deviation, where 1 is the range from black to white.
        generator: draws the noise.

    Returns:
        As many images, of the same type.
    """
    noise = torch.randn(images.shape, generator=generator).mul_(255 * sigma).to(images.device)
    return noise.add_(images).round_().clamp_(0, 255).to(images.dtype)


def gaussian_images(images: Tensor, generator: Generator) -> Tensor:
    """Draw images of pure Gaussian noise with the mean and the standard deviation of the images' pixels.

    Args:
        images: bytes, [images, channels, height, width].
        generator: draws the noise.

    Returns:
        As many images, of the same type.
    """
    floats = images.to(torch.float32)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return noise.mul_(floats.std()).add_(floats.mean()).round_().clamp_(0, 255).to(images.dtype)
