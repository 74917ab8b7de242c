"""Where negative labels come from (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def random_labels(labels: Tensor, count: int, generator: Generator) -> Tensor:
    """The author's negatives: the labels of other images, shuffled; about one in ten is in fact true.

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
    """Labels that are never the true one, and never twice the same for one image.

    Args:
        labels: true class numbers, [images].
        count: negatives for each image, at most `classes - 1`.
        classes: how many labels there are.
        generator: the source of randomness.

    Returns:
        Negative labels, [images, count].
    """
    keys = torch.rand((len(labels), classes - 1), generator=generator)
    steps = keys.argsort(dim=1)[:, :count] + 1  # distinct steps of 1 to classes - 1 around the ring of labels
    return (labels.unsqueeze(1) + steps) % classes
