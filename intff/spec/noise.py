"""How the training images are corrupted; the validation and the test images never are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from intff.spec.base import SpecPart, named


class NoNoise(SpecPart):
    """The images as they are."""

    kind: Literal["none"] = "none"


class PaperMixture(SpecPart):
    """The paper's corrupted training set (section 5.1, Figure 4), four equal shares.

    A third of the training images stays clean, a third gets Gaussian noise, a third loses a
    random number of bottom rows, and as many images again are pure noise with random labels.
    """

    kind: Literal["paper_mixture"] = "paper_mixture"


_Noise = Annotated[NoNoise | PaperMixture, Field(discriminator="kind")]
Noise = Annotated[_Noise, named("none", Literal["none", "paper_mixture"] | _Noise)]
