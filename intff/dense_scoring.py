"""Fast scoring with a network of dense layers on a CPU.

The scores equal the network's own up to rounding but need fewer passes over memory. The differences to the network's
forward pass, each measured in docs/measurements.md:

- Images go through all units in chunks that fit in the processor's caches.
- Layers of one width write alternately to two buffers. Newly allocated memory is rarely the memory just freed: torch
  requests aligned blocks, so glibc looks for a block that is larger by the alignment than the one just freed.
- Weights are stored in the layout that is fastest for the matrix product.
- The sum of squares of a unit's activations is computed once, for its goodness and for the next unit's normalisation.
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
"""Activations of the widest layer per chunk: many more would not fit in the caches, fewer mean more chunk overhead."""


class DenseScorer:
    """Scores images with the weights that the network has when the scorer is created.

    Args:
        network: one for which `applies_to` is true.
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
        """Whether a network has only dense layers, and its goodness function is supported here."""
        if not isinstance(network, GoodnessNetwork) or network.goodness not in {mean_square, sum_square}:
            return False
        return all(isinstance(layer, Dense) for unit in network.units for layer in unit.layers)

    def __call__(self, images: Tensor) -> Scores:
        """Score at least one image, floats from 0 to 1, [batch, channels, height, width]; without gradients."""
        network, step = self._network, self._images_at_once
        prepared = network.encoding.prepared(network.units[0], images, self._labels)
        starts = range(0, len(images), step)
        unit_goodness = torch.cat([self._unit_goodness(prepared[start : start + step]) for start in starts])
        return network.scores(images, unit_goodness, rows=step)

    def _unit_goodness(self, prepared: Prepared) -> Tensor:
        """Goodness at every unit for one chunk, [images, units, labels]."""
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
        """Each row's sum of squares, [rows], or None with groups; and goodness, [images, labels]."""
        network = self._network
        if isinstance(network.encoding, Groups):
            return None, by_group(network.goodness, hidden, network.classes)
        squares = vector_norm(hidden, dim=1).square_()
        goodness = squares / hidden.shape[1] if network.goodness is mean_square else squares
        return squares, goodness.view(-1, network.classes)


class _Memory:
    """Two buffers per layer width, one to read from and one to write to.

    Widths do not share buffers, because a core would then write to lines held in another core's cache.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}

    def beside(self, inputs: Tensor, rows: int, width: int) -> Tensor:
        """A buffer for a result, [rows, width], that does not contain the inputs."""
        if width not in self._pairs:
            self._pairs[width] = inputs.new_empty(self._rows, width), inputs.new_empty(self._rows, width)
        first, second = self._pairs[width]
        return (second if inputs.data_ptr() == first.data_ptr() else first)[:rows]


class _Unit:
    """The forward pass of a hidden unit."""

    def __init__(self, unit: HiddenUnit, memory: _Memory) -> None:
        layers = [layer for layer in unit.layers if isinstance(layer, Dense)]
        self._memory = memory
        self._weights = [layer.weight.t().contiguous() for layer in layers]  # [inputs, neurons]
        self._biases = [layer.bias for layer in layers]
        self._activation = layers[0].activation
        self._normalization = unit.normalization
        self._of_labels = unit.embedding

    def forward(self, inputs: Tensor, images: int, squares: Tensor | None = None) -> Tensor:
        """The activations of the last layer, [rows, neurons].

        Args:
            inputs: flat, [rows, values].
            images: number of images that the rows belong to.
            squares: each row's sum of squares, [rows], if already known.
        """
        normalization, bias = self._normalization, self._biases[0]
        if needs_total(normalization):
            before = self._product(0, normalized(inputs, normalization)).add_(bias)
        else:
            before = self._product(0, inputs)
            torch.addcmul(bias, before, scale(inputs, normalization, squares), out=before)
        if self._of_labels is not None:  # rows are images in the first unit, images times labels later
            before = (before.view(images, -1, len(bias)) + self._of_labels).flatten(0, 1)
        return self._rest(before)

    def overlaid(self, overlaid: Overlaid) -> Tensor:
        """The first unit's activations, for image and label parts that are yet to be added."""
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
