"""Networks: hidden units in a row that score labels by goodness, and the plain network of backpropagation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.linalg import vecdot

from intff.goodness import Goodness
from intff.labels import Overlay
from intff.layers import Scale
from intff.units import HiddenUnit


class Scores(NamedTuple):
    """What a network says of some images; None where it has no such thing."""

    unit_goodness: Tensor | None
    """[batch, units, labels]"""
    logits: Tensor | None
    """Of the softmax classifier, [batch, labels]"""

    @property
    def goodness(self) -> Tensor | None:
        """The sum over the hidden units, [batch, labels] (paper section 3.4)."""
        return None if self.unit_goodness is None else self.unit_goodness.sum(dim=1)

    @property
    def ranking(self) -> Tensor:
        """What decides the label: the softmax's logits where there are any, else the goodness, [batch, labels]."""
        ranking = self.goodness if self.logits is None else self.logits
        assert ranking is not None
        return ranking


class GoodnessNetwork(nn.Module):
    """Hidden units in a row; no gradient passes from one to another (paper section 6.2).

    Args:
        units: from input to output.
        overlay: how a label enters an image.
        goodness: of a unit's activations.
        head: the softmax layer on all units' activations for a neutral label (section 3.5), if there is one.
        scale: normalises each unit's activations before the head.
    """

    def __init__(
        self, units: Sequence[HiddenUnit], overlay: Overlay, goodness: Goodness, head: nn.Linear | None, scale: Scale
    ) -> None:
        super().__init__()
        self.units = cast("Sequence[HiddenUnit]", nn.ModuleList(units))
        self.overlay = overlay
        self.goodness = goodness
        self.head = head
        self.scale = scale

    def activations(self, blank: Tensor, pixels: Tensor) -> list[Tensor]:
        """Each unit's activations for images under several overlays.

        Args:
            blank: flat images whose label pixels are zero, [batch, pixels].
            pixels: what each variant has there, [batch or 1, variants, classes].

        Returns:
            One tensor per unit, [batch, variants, neurons]; each unit's graph ends at its own input.
        """
        hidden = self.units[0].forward_overlaid(blank, pixels)
        outputs = [hidden]
        for unit in self.units[1:]:
            hidden = unit(hidden.detach())
            outputs.append(hidden)
        return outputs

    def unit_goodness(self, blank: Tensor) -> Tensor:
        """Goodness of every label at every unit.

        Args:
            blank: flat images whose label pixels are zero, [batch, pixels].

        Returns:
            [batch, units, labels]
        """
        pixels = self.overlay.value * torch.eye(self.overlay.classes, device=blank.device).unsqueeze(0)
        return torch.stack([self.goodness(hidden) for hidden in self.activations(blank, pixels)], dim=1)

    def logits(self, blank: Tensor) -> Tensor:
        """The softmax layer's logits, from one pass with a neutral label, [batch, labels]."""
        assert self.head is not None
        neutral = self.overlay.neutral().to(blank.device)[None, None]
        outputs = [hidden.squeeze(1).detach() for hidden in self.activations(blank, neutral)]
        normal = [h * self.scale(vecdot(h, h).unsqueeze(-1), h.shape[-1]) for h in outputs]
        logits: Tensor = self.head(torch.cat(normal, dim=-1))
        return logits

    def forward(self, images: Tensor) -> Scores:
        """Score images, [batch, pixels] of 0 to 1."""
        blank = self.overlay.blank(images)
        return Scores(self.unit_goodness(blank), None if self.head is None else self.logits(blank))


class BackpropNetwork(nn.Module):
    """Dense layers with ReLU and a softmax output layer, trained end to end.

    Args:
        layers: hidden layers from input to output.
        head: the output layer.
    """

    def __init__(self, layers: Sequence[nn.Linear], head: nn.Linear) -> None:
        super().__init__()
        self.layers = cast("Sequence[nn.Linear]", nn.ModuleList(layers))
        self.head = head

    def logits(self, images: Tensor) -> Tensor:
        """Logits of flat images, [batch, pixels] to [batch, labels]."""
        hidden = images
        for layer in self.layers:
            hidden = layer(hidden).relu_()
        logits: Tensor = self.head(hidden)
        return logits

    def forward(self, images: Tensor) -> Scores:
        """Score images, [batch, pixels] of 0 to 1."""
        return Scores(None, self.logits(images))


Network = GoodnessNetwork | BackpropNetwork
