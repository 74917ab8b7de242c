"""Forward and backward passes of dense layers, with explicit gradients of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from intff.derivatives import OF_ACTIVATIONS
from intff.labels import Embedding, Overlay
from intff.layers import Dense, Layer
from intff.networks import BackpropNetwork, GoodnessNetwork
from intff.normalization import Normalization, normalized
from intff.units import HiddenUnit

Gradients = dict[Tensor, Tensor]
"""The gradient of each weight; filled in by the backward pass."""


class _Linear:
    """A dense layer without its activation."""

    def __init__(self, layer: nn.Linear | Layer, found: Gradients) -> None:
        assert isinstance(layer, nn.Linear | Dense)
        self.weight, self.bias, self._found = layer.weight, layer.bias, found

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [rows, inputs] to [rows, neurons]."""
        self._inputs = inputs
        # torch.nn.functional.linear first writes the biases in a pass of its own; here the product is still in cache.
        return torch.mm(inputs, self.weight.t()).add_(self.bias)

    def back(self, gradient: Tensor) -> None:
        """Store the weights' gradients, given that of the last output, [rows, neurons]."""
        self._found[self.bias] = gradient.sum(dim=0)
        self._found[self.weight] = gradient.t() @ self._inputs


class Softmax(_Linear):
    """A softmax layer with cross-entropy loss."""

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of the batch, and its gradient with respect to the logits, [batch, labels]."""
        logarithms = log_softmax(self.forward(inputs), dim=1)
        gradient = logarithms.exp()
        gradient.scatter_add_(1, labels.unsqueeze(1), gradient.new_full((len(labels), 1), -1)).div_(len(labels))
        self.back(gradient)
        return nll_loss(logarithms, labels), gradient


class _Entry(Protocol):
    """Maps a unit's inputs to the pre-activations of its first layer; the inputs need no gradient."""

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Map images or activations, [images or rows, ...], and labels, [images, variants], to [rows, neurons]."""

    def back(self, gradient: Tensor) -> None:
        """Store the weights' gradients, given that of the last output, which may be overwritten."""


class _Plain(_Linear):
    """The first layer of inputs into which no label enters."""

    def __init__(self, layer: Layer, normalization: Normalization | None, found: Gradients) -> None:
        super().__init__(layer, found)
        self._normalization = normalization

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        del labels
        flat = inputs.flatten(1)
        return super().forward(normalized(flat, self._normalization) if self._normalization else flat)


class _Overlaid:
    """The first layer of images with label overlays, without copying the images; see `HiddenUnit.overlaid`."""

    def __init__(self, unit: HiddenUnit, overlay: Overlay, found: Gradients) -> None:
        layer = unit.layers[0]
        assert isinstance(layer, Dense)
        self._unit, self._layer, self._overlay, self._found = unit, layer, overlay, found
        self._pixels = overlay.pixels(torch.arange(overlay.classes)).to(layer.weight)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        self._rest, self._labels = self._overlay.rest(inputs), labels
        self._overlaid = self._unit.overlaid(self._rest, self._pixels, labels)
        return self._overlaid.added()

    def back(self, gradient: Tensor) -> None:
        weight, classes = self._layer.weight, self._overlay.classes
        self._found[self._layer.bias] = gradient.sum(dim=0)
        of_variants = gradient.view(*self._labels.shape, -1).mul_(self._overlaid.factor.unsqueeze(1))
        of_images = of_variants.sum(dim=1)
        of_labels = gradient.new_zeros(classes, gradient.shape[1]).index_add_(0, self._labels.flatten(), gradient)
        found = self._found[weight] = torch.empty_like(weight)
        found[:, :classes] = of_labels.t() @ self._pixels
        torch.mm(of_images.t(), self._rest, out=found[:, classes:])
        if self._overlaid.mean is not None:
            found.sub_(of_images.t() @ self._overlaid.mean)


class _Embedded:
    """The first layer with a label embedding added to its pre-activations."""

    def __init__(self, plain: _Plain, embedding: nn.Parameter, found: Gradients, *, is_first: bool) -> None:
        self._plain, self._embedding, self._found, self._is_first = plain, embedding, found, is_first

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        self._labels = labels if self._is_first else labels.reshape(-1, 1)  # later units: a row per label
        vectors = nn.functional.embedding(self._labels, self._embedding)
        return (self._plain.forward(inputs).unsqueeze(1) + vectors).flatten(0, 1)

    def back(self, gradient: Tensor) -> None:
        vectors = torch.zeros_like(self._embedding)
        self._found[self._embedding] = vectors.index_add_(0, self._labels.flatten(), gradient)
        self._plain.back(gradient.view(*self._labels.shape, -1).sum(dim=1))


class Chain:
    """A sequence of dense layers; an entry handles the first one."""

    def __init__(self, layers: Sequence[Layer], entry: _Entry, found: Gradients) -> None:
        self._entry = entry
        self._linears = [_Linear(layer, found) for layer in layers[1:]]
        self._activations = [layer.activation for layer in layers if isinstance(layer, Dense)]
        self._passed: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The activations of the last layer, [rows, neurons]."""
        first, *rest = self._activations
        before = self._entry.forward(inputs, labels)
        after = first(before)
        self._passed = [(before, after)]
        for layer, activation in zip(self._linears, rest, strict=True):
            before = layer.forward(after)
            after = activation(before)
            self._passed.append((before, after))
        return after

    def back(self, gradient: Tensor) -> None:
        """Store the weights' gradients, given that of the last activations, which may be overwritten."""
        for number in reversed(range(len(self._passed))):
            gradient = OF_ACTIVATIONS[self._activations[number]](gradient, *self._passed[number])
            if number == 0:
                self._entry.back(gradient)
            else:
                layer = self._linears[number - 1]
                layer.back(gradient)
                gradient = gradient @ layer.weight


def of_unit(network: GoodnessNetwork, number: int, found: Gradients) -> Chain:
    """The chain of one unit; its labels are class numbers, [images, variants]."""
    unit, encoding, is_first = network.units[number], network.encoding, number == 0
    entry: _Entry = _Plain(unit.layers[0], unit.normalization, found)
    if isinstance(encoding, Overlay) and is_first:
        entry = _Overlaid(unit, encoding, found)
    if isinstance(encoding, Embedding):
        assert isinstance(entry, _Plain)
        assert unit.embedding is not None
        entry = _Embedded(entry, unit.embedding, found, is_first=is_first)
    return Chain(unit.layers, entry, found)


def of_all_layers(network: BackpropNetwork, found: Gradients) -> Chain:
    """The chain of every layer below the softmax."""
    return Chain(network.layers, _Plain(network.layers[0], network.normalization, found), found)
