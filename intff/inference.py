"""Scoring images with a network: labels, accuracy, in pieces that fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor

from intff.batches import as_floats
from intff.networks import Network, Scores
from intff.spec.limits import SCORED_AT_ONCE

_IN_CACHE = 200
"""Images at once on a CPU, whose caches then hold their activations: less than two thirds of the time of a thousand,
under ten labels each or through convolutions."""


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
    split = torch.split(images, SCORED_AT_ONCE if images.is_cuda else _IN_CACHE)
    pieces = [network(as_floats(piece) if piece.dtype == torch.uint8 else piece) for piece in split]
    network.train(was_training)
    return Scores(*(None if column[0] is None else torch.cat(column) for column in zip(*pieces, strict=True)))


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """The share of images whose highest-ranked label is the true one, 0 to 1."""
    right = score(network, images).ranking.argmax(dim=1) == labels
    return float(right.double().mean())
