"""The training rule: IntFF, plain Forward-Forward, or backpropagation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from intff.spec.base import SpecPart, named


class RandomLabel(SpecPart):
    """The author's negatives: randomly drawn labels, about one in ten of which is the true label."""

    kind: Literal["random_label"] = "random_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Negatives for each image."""


class WrongLabel(SpecPart):
    """Negatives with wrong labels, all distinct for one image."""

    kind: Literal["wrong_label"] = "wrong_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 3
    """Negatives for each image; at most the number of classes minus one."""


class HardLabel(SpecPart):
    """Wrong labels that the network finds likely, sampled without replacement from the softmax of their goodness.

    The goodness is the unweighted sum over the units: `unit_weights` apply only to the final score.
    """

    kind: Literal["hard_label"] = "hard_label"
    count: Annotated[int, Field(ge=1, le=64, strict=True)] = 1
    """Negatives for each image; at most the number of classes minus one."""


class Hybrid(SpecPart):
    """Hinton's hybrid images (paper section 3.3): two images mixed by a blob mask, with the first image's label."""

    kind: Literal["hybrid"] = "hybrid"


class Rotated(SpecPart):
    """The image rotated by 90, 180 or 270 degrees, with its true label (paper section 3.3)."""

    kind: Literal["rotated"] = "rotated"


class NoisyCopy(SpecPart):
    """The image with added Gaussian noise, with its true label (paper section 3.3)."""

    kind: Literal["noisy_copy"] = "noisy_copy"
    sigma: Annotated[float, Field(gt=0, le=10, strict=True)] = 0.5
    """Standard deviation, where 1 is the range from black to white."""


class GaussianNoise(SpecPart):
    """Images of pure Gaussian noise, which the paper found not to work (section 3.3)."""

    kind: Literal["gaussian_noise"] = "gaussian_noise"


_Negatives = Annotated[
    RandomLabel | WrongLabel | HardLabel | Hybrid | Rotated | NoisyCopy | GaussianNoise, Field(discriminator="kind")
]
NegativesName = Literal[
    "random_label", "wrong_label", "hard_label", "hybrid", "rotated", "noisy_copy", "gaussian_noise"
]
Negatives = Annotated[_Negatives, named("wrong_label", NegativesName | _Negatives)]


class Overlay(SpecPart):
    """The label as a pixel: the first pixels, one per class, are set to zero and the label's pixel to `value`."""

    kind: Literal["overlay"] = "overlay"
    value: Annotated[float, Field(gt=0, le=1000, strict=True)] = 5.0
    """Brightness of the label's pixel, where 1.0 is white. The author uses 1.0."""


class Embedding(SpecPart):
    """The label as a learned vector, added at every position to the pre-activations of each unit's first layer."""

    kind: Literal["embedding"] = "embedding"


class Groups(SpecPart):
    """The label as an output group: each unit's output is split into one group of neurons or channels per class.

    A label's goodness is that of its group, so one pass scores every label and the image contains no label.
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
    """Goodness of a unit: the mean (the author's code) or the sum (the paper's formula) of its squared outputs."""
    loss: Literal["softplus", "softplus_logsumexp", "symba", "swish", "cross_entropy"] = "softplus_logsumexp"
    """The local loss. `softplus` averages over the negatives of an image; `softplus_logsumexp` combines them by
    log-sum-exp. The others do not use theta: `symba` and `swish` compare the positive goodness with each negative
    goodness; `cross_entropy` takes the softmax over the positive and its negatives."""
    negatives: Negatives = WrongLabel()
    normalization: Literal["l2", "rms", "layer"] = "rms"
    """How a unit normalises its input."""
    label_encoding: LabelEncoding = Overlay()
    """Defaults to `groups` if every unit's output has at least one neuron or channel per class, and to `overlay`
    otherwise. With `groups`, the defaults of the other fields are the loss `cross_entropy`, nine `wrong_label`
    negatives and `layer` normalisation."""
    unit_weights: UnitWeights = "equal"
    """Weight of each hidden unit in the score: equal, fitted to the validation images (`calibrated`), or given."""
    classifier: Literal["goodness", "softmax"] = "goodness"
    """Predict the label with the highest goodness, or use a softmax layer on the units' activations (section 3.5)."""


class IntFF(_LocalLosses):
    """A local loss for each hidden unit, with shallow backpropagation inside the unit (paper section 3.2)."""

    kind: Literal["intff"] = "intff"


class FF(_LocalLosses):
    """Plain Forward-Forward: every layer is a hidden unit of its own."""

    kind: Literal["ff"] = "ff"


class BP(SpecPart):
    """Backpropagation through all layers and a softmax output layer, by cross-entropy."""

    kind: Literal["bp"] = "bp"
    normalization: Literal["none", "l2", "rms", "layer"] = "layer"
    """How the images are normalised. Hidden units normalise their inputs, so a fair comparison does the same for
    backpropagation; the paper's backpropagation has none."""


_Algorithm = Annotated[IntFF | FF | BP, Field(discriminator="kind")]
Algorithm = Annotated[_Algorithm, named("intff", Literal["intff", "ff", "bp"] | _Algorithm)]
