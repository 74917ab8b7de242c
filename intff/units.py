"""The hidden unit: a block of layers that shares one local loss (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.linalg import vecdot
from torch.nn.functional import linear

from intff.layers import Scale


class HiddenUnit(nn.Module):
    """Normalises its input, then applies its dense layers, each followed by ReLU.

    A unit is only a forward map; the trainer owns losses, optimizers and loops.

    Args:
        layers: from input to output; at least one.
        scale: the normalisation.
    """

    def __init__(self, layers: Sequence[nn.Linear], scale: Scale) -> None:
        super().__init__()
        self.layers = cast("Sequence[nn.Linear]", nn.ModuleList(layers))
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Activations of the unit's last layer.

        Args:
            inputs: of any leading shape, [..., inputs].

        Returns:
            Activations, [..., neurons].
        """
        factor = self.scale(vecdot(inputs, inputs).unsqueeze(-1), inputs.shape[-1])
        return self._layers(inputs * factor, start=0)

    def forward_overlaid(self, blank: Tensor, pixels: Tensor) -> Tensor:
        """The same for images under several label overlays, with the image's part computed once.

        An overlay changes only the first pixels of a blanked image x, so the first layer is
        W x_label = W x + W[:, :classes] pixels, and the norm grows by that of the pixels alone.
        Equal to `forward` on the overlaid images but for rounding.

        Args:
            blank: flat images whose first pixels are zero, [batch, inputs].
            pixels: what each variant has there, [batch or 1, variants, classes].

        Returns:
            Activations, [batch, variants, neurons].
        """
        first = self.layers[0]
        squares = vecdot(blank, blank)[:, None, None] + pixels.square().sum(dim=-1, keepdim=True)
        factor = self.scale(squares, blank.shape[-1])  # [batch, variants, 1]
        image_part = linear(blank, first.weight).unsqueeze(1)  # [batch, 1, neurons]
        label_part = pixels @ first.weight[:, : pixels.shape[-1]].T  # [batch or 1, variants, neurons]
        before = torch.addcmul(first.bias, image_part + label_part, factor)  # [batch, variants, neurons]
        return self._layers(before.relu_(), start=1)

    def _layers(self, hidden: Tensor, start: int) -> Tensor:
        leading = hidden.shape[:-1]
        hidden = hidden.reshape(-1, hidden.shape[-1])  # one plain matrix product a layer
        for layer in self.layers[start:]:
            hidden = layer(hidden).relu_()  # in place: nothing else needs what was there
        return hidden.view(*leading, -1)
