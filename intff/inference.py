"""Scores images with a network, in chunks that fit into memory, and measures accuracy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite

import torch
from torch import Tensor

from intff.batches import as_floats
from intff.dense_scoring import ACTIVATIONS_AT_ONCE, DenseScorer
from intff.errors import Diverged
from intff.layers import Convolution, Dense
from intff.networks import Network, Scores
from intff.spec.limits import SCORED_AT_ONCE

_IMAGES_AT_ONCE = 2000
"""Images per chunk on a CPU, where the work done once per image is more efficient on many images."""
_ROWS_OF_MAPS = 200
"""Rows of activations per chunk on a CPU if there are convolutions."""
_KEPT_BYTES = 2**24
"""More than one layer's activations of a chunk."""
_MANY_IMAGES = 200
"""From this many images on, a `DenseScorer` is worth its setup cost."""


@torch.inference_mode()
def score(network: Network, images: Tensor) -> Scores:
    """Score images in chunks.

    Args:
        network: on the same device as the images.
        images: bytes or floats from 0 to 1, [images, channels, height, width].

    Returns:
        The scores of all of them.
    """
    was_training = network.training
    network.eval()
    at_once = SCORED_AT_ONCE if images.is_cuda else _IMAGES_AT_ONCE
    try:
        return _in_pieces(_scorer(network, images), images, at_once)
    finally:
        network.train(was_training)


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """The fraction of images whose highest-ranked label is the true one, 0 to 1.

    Args:
        network: on the same device as the images.
        images: bytes or floats from 0 to 1, [images, channels, height, width].
        labels: true class numbers, [images].

    Raises:
        Diverged: a score of some image is NaN or infinite.
    """
    ranking = score(network, images).ranking
    if not bool(ranking.isfinite().all()):
        worst = next(value for value in ranking.flatten().tolist() if not isfinite(value))
        msg = f"the score of an image's label is {worst}: training diverged; lower training.learning_rate"
        raise Diverged(msg)
    return float((ranking.argmax(dim=1) == labels).double().mean())


def _in_pieces(scorer: Callable[[Tensor], Scores], images: Tensor, at_once: int) -> Scores:
    filled: Scores | None = None
    for start in range(0, max(1, len(images)), at_once):
        piece = images[start : start + at_once]
        found = scorer(as_floats(piece) if piece.dtype == torch.uint8 else piece)
        if filled is None:
            filled = Scores(*(None if it is None else it.new_empty((len(images), *it.shape[1:])) for it in found))
        # Copied into one tensor, so that no chunk's scores fragment the memory that the next chunk reuses.
        for column, scores in zip(filled, found, strict=True):
            if column is not None and scores is not None:
                column[start : start + at_once] = scores
    assert filled is not None
    return filled


def _scorer(network: Network, images: Tensor) -> Callable[[Tensor], Scores]:
    """The fastest scorer for the network, the device and the number of images."""
    if images.is_cuda:
        return network
    _keep_freed_memory()
    if len(images) >= _MANY_IMAGES and DenseScorer.applies_to(network):
        return DenseScorer(network)
    if any(isinstance(module, Convolution) for module in network.modules()):
        return partial(network, rows=_ROWS_OF_MAPS)
    widest = max((len(module.weight) for module in network.modules() if isinstance(module, Dense)), default=1)
    return partial(network, rows=max(1, ACTIVATIONS_AT_ONCE // widest))


def _keep_freed_memory() -> None:
    """Make the C library keep the memory freed by one chunk for the next.

    Otherwise glibc may return it to the system each time, and a pass takes up to twice as long because its pages are
    faulted in again one by one. glibc keeps up to twice the size of the largest block ever freed (mallopt(3), dynamic
    thresholds); the block freed here is never written to, so it costs no memory.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
