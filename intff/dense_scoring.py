"""Scoring by a network of dense layers on a CPU: its own scores but for rounding, in fewer passes over memory.

What it does otherwise than the network itself, each measured in docs/measurements.md:

- Images go through all units in pieces that the processor's caches hold.
- Layers write to two buffers for each width in turns. New memory is seldom the memory that was just freed: torch asks
  for aligned blocks, and glibc looks for one that is larger by the alignment than the block that waits there.
- Weights are laid out as the matrix product reads them fastest.
- The sum of squares of a unit's activations is found once, for its goodness and for the next unit's normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from intff.goodness import by_group, mean_square, sum_square
from intff.labels import Groups, Prepared
from intff.layers import Dense
from intff.networks import GoodnessNetwork, Network, Scores
from intff.normalization import needs_total, normalized, scale
from intff.units import HiddenUnit, Overlaid

ACTIVATIONS_AT_ONCE = 500_000
"""Of the widest layer: the caches do not hold many more, and with fewer there are more pieces, each at its price."""


class DenseScorer:
    """Scores images with the weights that the network has when the scorer is made.

    Args:
        network: one that the scorer `applies_to`.
    """

    def __init__(self, network: Network) -> None:
        assert isinstance(network, GoodnessNetwork)
        self._network = network
        self._labels = torch.arange(network.classes).unsqueeze(0)
        dense = [layer for unit in network.units for layer in unit.layers if isinstance(layer, Dense)]
        rows_of_image = network.encoding.rows(network.classes)
        self._images_at_once = max(1, ACTIVATIONS_AT_ONCE // max(rows_of_image * len(each.weight) for each in dense))
        memory = _Memory(self._images_at_once * rows_of_image)
        self._units = [_Unit(unit, memory) for unit in network.units]

    @staticmethod
    def applies_to(network: Network) -> bool:
        """Whether a network has nothing but dense layers, and its goodness is known here."""
        if not isinstance(network, GoodnessNetwork) or network.goodness not in {mean_square, sum_square}:
            return False
        return all(isinstance(layer, Dense) for unit in network.units for layer in unit.layers)

    def __call__(self, images: Tensor) -> Scores:
        """Score at least one image, floats of 0 to 1, [batch, channels, height, width]; without gradients."""
        network, step = self._network, self._images_at_once
        prepared = network.encoding.prepared(network.units[0], images, self._labels)
        starts = range(0, len(images), step)
        unit_goodness = torch.cat([self._unit_goodness(prepared[start : start + step]) for start in starts])
        return network.scores(images, unit_goodness, rows=step)

    def _unit_goodness(self, prepared: Prepared) -> Tensor:
        """Of one piece, [images, units, labels]."""
        first, *later = self._units
        if isinstance(prepared, Overlaid):
            images, _ = prepared.images_and_variants
            hidden = first.overlaid(prepared)
        else:
            images = len(prepared)
            hidden = first.forward(prepared.flatten(1), images)
        squares, goodness = self._goodness(hidden)
        found = [goodness]
        for unit in later:
            hidden = unit.forward(hidden, images, squares)
            squares, goodness = self._goodness(hidden)
            found.append(goodness)
        return torch.stack(found, dim=1)

    def _goodness(self, hidden: Tensor) -> tuple[Tensor | None, Tensor]:
        """The sum of each row's squares, [rows], where that is what goodness needs, and goodness, [images, labels]."""
        network = self._network
        if isinstance(network.encoding, Groups):
            return None, by_group(network.goodness, hidden, network.classes)
        squares = vector_norm(hidden, dim=1).square_()
        goodness = squares / hidden.shape[1] if network.goodness is mean_square else squares
        return squares, goodness.view(-1, network.classes)


class _Memory:
    """Two buffers for each width, to read from and to write to.

    They are not shared by widths, for then one core would write where another one's cache holds what it wrote before.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def beside(self, inputs: Tensor, rows: int, width: int) -> Tensor:
        """Where a result may be written, [rows, width], for the inputs do not lie there."""
        if width not in self._pairs:
            self._pairs[width] = inputs.new_empty(self._rows, width), inputs.new_empty(self._rows, width)
        first, second = self._pairs[width]
        return (second if inputs.data_ptr() == first.data_ptr() else first)[:rows]


class _Unit:
    """A hidden unit's forward map, of rows to rows."""

    def __init__(self, unit: HiddenUnit, memory: _Memory) -> None:
        layers = [layer for layer in unit.layers if isinstance(layer, Dense)]
        self._memory = memory
        self._weights = [layer.weight.t().contiguous() for layer in layers]  # [inputs, neurons]
        self._biases = [layer.bias for layer in layers]
        self._activation = layers[0].activation
        self._normalization = unit.normalization
        self._of_labels = unit.embedding

    def forward(self, inputs: Tensor, images: int, squares: Tensor | None = None) -> Tensor:
        """Activations of the last layer, [rows, neurons].

        Args:
            inputs: flat, [rows, values].
            images: how many they belong to.
            squares: the sum of each row's squares, [rows], where it is known.
        """
        normalization, bias = self._normalization, self._biases[0]
        if needs_total(normalization):
            before = self._product(0, normalized(inputs, normalization)).add_(bias)
        else:
            before = self._product(0, inputs)
            torch.addcmul(bias, before, scale(inputs, normalization, squares), out=before)
        if self._of_labels is not None:  # rows are images in the first unit, and images times labels in later ones
            before = (before.view(images, -1, len(bias)) + self._of_labels).flatten(0, 1)
        return self._rest(before)

    def overlaid(self, overlaid: Overlaid) -> Tensor:
        """The first unit's, for images and labels that are yet to be added."""
        images, labels = overlaid.images_and_variants
        into = self._memory.beside(overlaid.image_part, images * labels, len(self._biases[0]))
        return self._rest(overlaid.added(into))

    def _rest(self, before: Tensor) -> Tensor:
        hidden = self._activation(before)
        for number in range(1, len(self._weights)):
            hidden = self._activation(self._product(number, hidden).add_(self._biases[number]))
        return hidden

    def _product(self, number: int, inputs: Tensor) -> Tensor:
        weight = self._weights[number]
        return torch.mm(inputs, weight, out=self._memory.beside(inputs, len(inputs), weight.shape[1]))
