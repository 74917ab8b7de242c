"""The training rule: IntFF, plain Forward-Forward, or backpropagation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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


_Negatives = Annotated[RandomLabel | WrongLabel, Field(discriminator="kind")]
Negatives = Annotated[_Negatives, named("wrong_label", Literal["random_label", "wrong_label"] | _Negatives)]


class Overlay(SpecPart):
    """The label as one pixel: the first pixels, one per class, are zeroed and the label's is set."""

    kind: Literal["overlay"] = "overlay"
    value: Annotated[float, Field(gt=0, le=1000, strict=True)] = 5.0
    """Brightness of the label's pixel; 1.0 is the brightest pixel of an image, and the author's setting."""


LabelEncoding = Annotated[Overlay, named("overlay", Literal["overlay"] | Overlay)]


class _LocalLosses(SpecPart):
    theta: Annotated[float, Field(gt=0, le=10**6, strict=True)] = 1.5
    """The fixed threshold between positive and negative goodness (paper section 3.2)."""
    goodness: Literal["mean_square", "sum_square"] = "mean_square"
    """Of a unit's output activations: their mean of squares (the author's code) or sum (the paper's formula)."""
    loss: Literal["softplus", "softplus_logsumexp"] = "softplus_logsumexp"
    """How several negatives of one image count: each alone, averaged, or all at once by log-sum-exp."""
    negatives: Negatives = WrongLabel()
    normalization: Literal["l2", "rms"] = "rms"
    """How a unit normalises its input."""
    label_encoding: LabelEncoding = Overlay()
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


_Algorithm = Annotated[IntFF | FF | BP, Field(discriminator="kind")]
Algorithm = Annotated[_Algorithm, named("intff", Literal["intff", "ff", "bp"] | _Algorithm)]
