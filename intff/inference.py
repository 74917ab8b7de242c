"""Scoring images with a network: labels, accuracy, in pieces that fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor

from intff.batches import as_floats
from intff.buffers import reused_buffers
from intff.layers import Convolution, Dense
from intff.networks import Network, Scores
from intff.spec.limits import SCORED_AT_ONCE

_ACTIVATIONS_AT_ONCE = 500_000
"""Of one layer, on a CPU, whose caches then hold them: more take longer, and so do fewer, for each piece has its price.
Measured in docs/performance.md."""
_IMAGES_AT_ONCE = 2000
"""On a CPU, where what is done to an image before its labels are tried is better done to many."""
_ROWS_OF_MAPS = 200
"""Rows of activations at once where there are convolutions."""
_KEPT_BYTES = 2**24
"""More than one layer's activations of such a piece."""


@torch.inference_mode()
def score(network: Network, images: Tensor) -> Scores:
    """Score images in pieces.

    Args:
        network: on the same device as the images.
        images: bytes or floats of 0 to 1, [images, channels, height, width].

    Returns:
        The scores of all of them.
    """
    was_training = network.training
    network.eval()
    at_once, rows = SCORED_AT_ONCE, None
    if not images.is_cuda:
        _keep_freed_memory()
        at_once, rows = _IMAGES_AT_ONCE, _rows_in_cache(network)
    filled: Scores | None = None
    with reused_buffers():
        for start in range(0, max(1, len(images)), at_once):
            piece = images[start : start + at_once]
            found = network(as_floats(piece) if piece.dtype == torch.uint8 else piece, rows)
            if filled is None:
                filled = Scores(*(None if it is None else it.new_empty((len(images), *it.shape[1:])) for it in found))
            # Copied, so that nothing of a piece stays between the memory that the next one needs.
            for column, scores in zip(filled, found, strict=True):
                if column is not None:
                    column[start : start + at_once] = scores
    network.train(was_training)
    assert filled is not None
    return filled


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """The share of images whose highest-ranked label is the true one, 0 to 1."""
    right = score(network, images).ranking.argmax(dim=1) == labels
    return float(right.double().mean())


def _rows_in_cache(network: Network) -> int:
    if any(isinstance(module, Convolution) for module in network.modules()):
        return _ROWS_OF_MAPS
    widest = max((len(module.weight) for module in network.modules() if isinstance(module, Dense)), default=1)
    return max(1, _ACTIVATIONS_AT_ONCE // widest)


def _keep_freed_memory() -> None:
    """Let the C library keep what one piece frees for the next one.

    Otherwise glibc may give it back to the system each time, and a pass takes up to twice as long: its pages are
    fetched again one by one. It keeps twice the size of the largest block that was ever freed (mallopt(3), on dynamic
    thresholds); this one is never touched, and so costs no memory.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8)
