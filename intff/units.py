"""The hidden unit: a block of layers with one local loss (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import embedding, linear

from intff.layers import Convolution, Dense, Layer
from intff.normalization import Normalization, needs_total, normalized, scale


@dataclass(frozen=True)
class Overlaid:
    """The first layer's pre-activations of overlaid images, as separate parts of the image and of the label."""

    image_part: Tensor
    """Normalised, with the bias, [batch, neurons]"""
    label_part: Tensor
    """Not normalised, [batch or 1, variants, neurons]"""
    mean: Tensor | None
    """The value that the normalisation subtracts, [batch, 1]; None for zero"""
    factor: Tensor
    """The factor that it multiplies by, [batch, 1]"""

    def __getitem__(self, images: slice) -> Overlaid:
        label_part = self.label_part if len(self.label_part) == 1 else self.label_part[images]
        mean = None if self.mean is None else self.mean[images]
        return Overlaid(self.image_part[images], label_part, mean, self.factor[images])

    @property
    def images_and_variants(self) -> tuple[int, int]:
        """The number of images, and the number of variants of each."""
        return self.image_part.shape[0], self.label_part.shape[1]

    def added(self, out: Tensor | None = None) -> Tensor:
        """The sum of both parts, [batch * variants, neurons]; written to `out` if given."""
        image_part, factor = self.image_part.unsqueeze(1), self.factor.unsqueeze(1)
        into = None if out is None else out.view(*self.images_and_variants, -1)
        return torch.addcmul(image_part, self.label_part, factor, out=into).flatten(0, 1)


class HiddenUnit(nn.Module):
    """Normalises its input, then applies its layers.

    A unit defines only the forward pass; losses, optimizers and training loops are elsewhere.

    Args:
        layers: from input to output; at least one.
        normalization: of the input.
        embedding: a vector for each label, added to the pre-activations of the first layer,
            [classes, neurons or channels]; None for other label encodings.
    """

    def __init__(self, layers: Sequence[Layer], normalization: Normalization, embedding: Tensor | None = None) -> None:
        super().__init__()
        self.layers = cast("Sequence[Layer]", nn.ModuleList(layers))
        self.normalization = normalization
        self.embedding = None if embedding is None else nn.Parameter(embedding)

    def forward(self, inputs: Tensor) -> Tensor:
        """The activations of the unit's last layer, [rows, ...] to [rows, ...]."""
        first = self.layers[0]
        if isinstance(first, Dense) and not needs_total(self.normalization):
            # W (factor x) + b = factor (W x) + b; scaling the output is cheaper, since it usually has fewer values.
            flat = inputs.flatten(1)
            before = torch.addcmul(first.bias, linear(flat, first.weight), scale(flat, self.normalization))
            return self._layers(first.activation(before), start=1)
        return self._layers(normalized(inputs, self.normalization), start=0)

    def forward_embedded(self, inputs: Tensor, labels: Tensor | None) -> Tensor:
        """Like `forward`, with label embeddings added in the first layer; the input part is computed once per row.

        Args:
            inputs: [rows, ...].
            labels: class numbers, [rows or 1, variants]; None adds the mean of all embeddings.

        Returns:
            Activations, [rows * variants, ...].
        """
        first = self.layers[0]
        assert isinstance(first, Dense | Convolution)
        assert self.embedding is not None
        vectors = self.embedding.mean(dim=0)[None, None] if labels is None else self.embedding[labels]
        before = first.before(normalized(inputs, self.normalization)).unsqueeze(1)  # [rows, 1, features, ...]
        before = before + vectors.view(*vectors.shape, *(1 for _ in before.shape[3:]))
        return self._layers(first.activation(before.flatten(0, 1)), start=1)

    def overlaid(self, rest: Tensor, pixels: Tensor, labels: Tensor | None = None) -> Overlaid:
        """Apply the first layer, which must be dense, to images and to label pixels separately.

        An overlay replaces the first pixels of an image, so that W x = W_rest rest + W_label pixels; the sums over x
        for the normalisation are those of both parts as well.

        Args:
            rest: flat images without their first pixels, [batch, inputs - classes].
            pixels: the first pixels for each variant, [batch or 1, variants, classes], or for each label, [labels,
                classes]. All have the same sum and sum of squares, so the normalisation is the same for every label.
            labels: the variants' labels, [batch or 1, variants], if `pixels` are given for each label.
        """
        first = self.layers[0]
        assert isinstance(first, Dense)
        inputs, classes, of_one = first.weight.shape[1], pixels.shape[-1], pixels.reshape(-1, pixels.shape[-1])[:1]
        squares = vector_norm(rest, dim=1, keepdim=True).square() + of_one.square().sum()
        total = None
        if needs_total(self.normalization):
            total = rest.sum(dim=1, keepdim=True) + of_one.sum()
        mean, factor = self.normalization(total, squares, inputs)  # [batch, 1]
        of_label, of_rest = torch.split(first.weight, [classes, inputs - classes], dim=1)
        label_part = pixels @ of_label.T
        if labels is not None:
            label_part = embedding(labels, label_part)
        image_part = linear(rest, of_rest)
        if mean is not None:
            image_part = image_part - mean * first.weight.sum(dim=1)
        return Overlaid(torch.addcmul(first.bias, image_part, factor), label_part, mean, factor)

    def forward_overlaid(self, overlaid: Overlaid) -> Tensor:
        """The activations, [batch * variants, ...]; equal to `forward` on the overlaid images up to rounding."""
        first = self.layers[0]
        assert isinstance(first, Dense)
        return self._layers(first.activation(overlaid.added()), start=1)

    def _layers(self, hidden: Tensor, start: int) -> Tensor:
        for layer in islice(self.layers, start, None):  # a slice of a ModuleList is a new ModuleList
            hidden = layer(hidden)
        return hidden
