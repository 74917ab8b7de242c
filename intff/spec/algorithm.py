"""The training rule: IntFF, plain Forward-Forward, or backpropagation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from intff.spec.base import SpecPart, named


class RandomLabel(SpecPart):
    """The author's negatives: labels drawn at random, so that about one in ten is in fact true."""

    kind: Literal["random_label"] = "random_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Negatives for each image."""


class WrongLabel(SpecPart):
    """Negatives whose label is never the true one, and never twice the same for one image."""

    kind: Literal["wrong_label"] = "wrong_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 3
    """Negatives for each image; at most the number of classes minus one."""


class HardLabel(SpecPart):
    """Wrong labels that the network itself finds likely: drawn by the softmax of their goodness, all distinct.

    The goodness is the plain sum over the units, for `unit_weights` count in the finished score alone.
    """

    kind: Literal["hard_label"] = "hard_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Negatives for each image; at most the number of classes minus one."""


class Hybrid(SpecPart):
    """Hinton's hybrids (paper section 3.3): two images mixed by a mask of large blobs, under the first one's label."""

    kind: Literal["hybrid"] = "hybrid"


class Rotated(SpecPart):
    """The image turned by 90, 180 or 270 degrees, under its true label (paper section 3.3)."""

    kind: Literal["rotated"] = "rotated"


class NoisyCopy(SpecPart):
    """The image with Gaussian noise added, under its true label (paper section 3.3)."""

    kind: Literal["noisy_copy"] = "noisy_copy"
    sigma: Annotated[float, Field(gt=0, le=10, strict=True)] = 0.5
    """Standard deviation, where 1 is the span from black to white."""


class GaussianNoise(SpecPart):
    """Images of nothing but noise, which the paper says do not work (section 3.3)."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"


_Negatives = Annotated[
    RandomLabel | WrongLabel | HardLabel | Hybrid | Rotated | NoisyCopy | GaussianNoise, Field(discriminator="kind")
]
NegativesName = Literal[
    "random_label", "wrong_label", "hard_label", "hybrid", "rotated", "noisy_copy", "gaussian_noise"
]
Negatives = Annotated[_Negatives, named("wrong_label", NegativesName | _Negatives)]


class Overlay(SpecPart):
    """The label as one pixel: the first pixels, one per class, are zeroed and the label's is set."""

    kind: Literal["overlay"] = "overlay"
    value: Annotated[float, Field(gt=0, le=1000, strict=True)] = 5.0
    """Brightness of the label's pixel; 1.0 is the brightest pixel of an image, and the author's setting."""


class Embedding(SpecPart):
    """The label as a learned vector, added to the first layer of every unit; it reaches every receptive field."""

    kind: Literal["embedding"] = "embedding"


class Groups(SpecPart):
    """The label as a place: each unit's output is cut into one group of neurons or channels for each class.

    A group's goodness is that label's, so one pass scores every label and no label enters the image.
    """

    kind: Literal["groups"] = "groups"


_LabelEncoding = Annotated[Overlay | Embedding | Groups, Field(discriminator="kind")]
LabelEncoding = Annotated[_LabelEncoding, named("overlay", Literal["overlay", "embedding", "groups"] | _LabelEncoding)]


_Weights = tuple[Annotated[float, Field(ge=0, le=1000, strict=True)], ...]
UnitWeights = Annotated[
    Annotated[Literal["equal", "calibrated"], Tag("named")]
    | Annotated[_Weights, Field(max_length=64, fail_fast=True), Tag("given")],
    Discriminator(lambda value: "given" if isinstance(value, list | tuple) else "named"),
]


class _LocalLosses(SpecPart):
    theta: Annotated[float, Field(gt=0, le=10**6, strict=True)] = 1.5
    """The fixed threshold between positive and negative goodness (paper section 3.2). Losses without theta, as
    `cross_entropy`, the default of `groups`, do not train by it; `probability_positive` goes by it all the same."""
    goodness: Literal["mean_square", "sum_square"] = "mean_square"
    """Of a unit's output activations: their mean of squares (the author's code) or sum (the paper's formula)."""
    loss: Literal["softplus", "softplus_logsumexp", "symba", "swish", "cross_entropy"] = "softplus_logsumexp"
    """The local loss. `softplus`: several negatives of one image are averaged; `softplus_logsumexp`: they count all at
    once. Without theta: `symba` and `swish` compare positive and negative goodness pair by pair, `cross_entropy` is
    the positive's softmax among the negatives."""
    negatives: Negatives = WrongLabel()
    normalization: Literal["l2", "rms", "layer"] = "rms"
    """How a unit normalises its input."""
    label_encoding: LabelEncoding = Overlay()
    """Left out, it is `groups` where every unit's output has room for one of each class, `overlay` elsewhere. With
    `groups`, what is left out of the rest is `cross_entropy`, nine `wrong_label` and `layer` normalisation."""
    unit_weights: UnitWeights = "equal"
    """What each hidden unit counts in the score: all the same, as fits the validation images best, or as given."""
    classifier: Literal["goodness", "softmax"] = "goodness"
    """Highest goodness over all labels, or a softmax layer on the units' activations (section 3.5)."""


class IntFF(_LocalLosses):
    """Local losses per hidden unit, shallow backpropagation inside each (paper section 3.2)."""

    kind: Literal["intff"] = "intff"


class FF(_LocalLosses):
    """Plain Forward-Forward: every layer is a hidden unit of its own."""

    kind: Literal["ff"] = "ff"


class BP(SpecPart):
    """Backpropagation through all layers and a softmax output layer, by cross-entropy."""

    kind: Literal["bp"] = "bp"
    normalization: Literal["none", "l2", "rms", "layer"] = "layer"
    """How the images are normalised: hidden units normalise theirs, so a fair comparison gives backpropagation the
    same. The paper's has none."""


_Algorithm = Annotated[IntFF | FF | BP, Field(discriminator="kind")]
Algorithm = Annotated[_Algorithm, named("intff", Literal["intff", "ff", "bp"] | _Algorithm)]
