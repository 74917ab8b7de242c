"""How the training images are corrupted; the validation and test images never are.

Every kind except `none` and `paper_mixture` has a `share`, the proportion of the training images that is corrupted,
so that a sweep varies the same field for every kind. Every kind can be expressed as a `Mixture`, which is what
`intff.noise` applies.
"""

from __future__ import annotations

from math import floor
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from intff.errors import SpecError, shown
from intff.spec.base import SpecPart, named

MOST_PURE_NOISE = 0.9
"""As a share of the training images. The original images stay, so 0.9 makes the training set ten times as large."""

Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Sigma = Annotated[float, Field(ge=0, le=10, strict=True)]
Rows = Annotated[int, Field(ge=1, strict=True)] | None
Flips = Literal["uniform", "pair"]
Weight = Annotated[float, Field(ge=0, le=10**6, strict=True)]


class Proportions(SpecPart):
    """Weights that divide the corrupted images among the kinds: 1, 1, 2 means a quarter, a quarter and a half."""

    gaussian: Weight = 0.0
    missing_rows: Weight = 0.0
    pure_noise: Weight = 0.0
    label_noise: Weight = 0.0

    @model_validator(mode="after")
    def _require_some(self) -> Self:
        if self.total == 0:
            msg = f"at least one of {', '.join(type(self).model_fields)} must be greater than 0, got 0 for each"
            raise SpecError(msg)
        return self

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return self.gaussian + self.missing_rows + self.pure_noise + self.label_noise


class Counts(NamedTuple):
    """Number of images with each corruption; no image has two."""

    gaussian: int
    missing_rows: int
    pure_noise: int
    """Added to the original images."""
    label_noise: int


class Mixture(SpecPart):
    """Several corruptions at once; the defaults are the paper's mixture.

    Images of pure noise are added to the original images, as in the paper; the other corruptions
    modify originals. The training set therefore grows with the share of pure noise, and no
    original image is dropped.
    """

    kind: Literal["mixture"] = "mixture"
    share: Share = 0.75
    """Proportion of the training images that is corrupted; the rest is clean."""
    proportions: Proportions = Proportions(gaussian=1, missing_rows=1, pure_noise=1)
    """How the corrupted images divide among the kinds; an omitted kind has weight 0."""
    gaussian_sigma: Sigma = 0.1
    """Standard deviation of the Gaussian noise, where 1 is the range from black to white."""
    max_rows: Rows = None
    """Maximum number of bottom rows that an image loses; null means all but one."""
    pure_noise_sigma: Sigma = 0.1
    """Standard deviation of the pure noise around the mean pixel."""
    flips: Flips = "uniform"
    """How a wrong label replaces label k: `uniform` draws any other label, `pair` takes k + 1 (0 after the last)."""

    @model_validator(mode="after")
    def _keep_the_given_images(self) -> Self:
        pure = self._part(self.proportions.pure_noise)
        if pure > MOST_PURE_NOISE:
            msg = (
                f"at most {MOST_PURE_NOISE} of the training images can be pure noise, because the originals stay; "
                f"a share of {self.share} makes it {pure:.3g}: lower share or proportions.pure_noise"
            )
            raise SpecError(msg, field="share")
        return self

    def _part(self, weight: float) -> float:
        return self.share * weight / self.proportions.total

    def counts(self, images: int) -> Counts:
        """Corruption counts for `images` original images, rounded down; a remainder stays clean."""
        given = 1 - self._part(self.proportions.pure_noise)  # share of original images in the training set
        # The small constant makes 0.29 of 100 equal 29 despite floating-point rounding.
        done = [
            floor(images * self._part(weight) / given + 1e-6)
            for weight in (
                self.proportions.gaussian,
                self.proportions.missing_rows,
                self.proportions.pure_noise,
                self.proportions.label_noise,
            )
        ]
        return Counts(*done)

    def as_mixture(self) -> Mixture:
        """Itself."""
        return self


class Gaussian(SpecPart):
    """Gaussian noise on every pixel of some images."""

    kind: Literal["gaussian"] = "gaussian"
    share: Share = 0.25
    """Proportion of the training images that is corrupted; a quarter, as in the paper's mixture."""
    sigma: Sigma = 0.1
    """Standard deviation, where 1 is the range from black to white."""

    def as_mixture(self) -> Mixture:
        """A mixture of this corruption alone."""
        return Mixture(share=self.share, proportions=Proportions(gaussian=1), gaussian_sigma=self.sigma)


class MissingRows(SpecPart):
    """Some images lose their bottom rows; the number of rows is uniform from 1 to `max_rows`."""

    kind: Literal["missing_rows"] = "missing_rows"
    share: Share = 0.25
    """Proportion of the training images that is corrupted; a quarter, as in the paper's mixture."""
    max_rows: Rows = None
    """Maximum number of bottom rows that an image loses; null means all but one."""

    def as_mixture(self) -> Mixture:
        """A mixture of this corruption alone."""
        return Mixture(share=self.share, proportions=Proportions(missing_rows=1), max_rows=self.max_rows)


class PureNoise(SpecPart):
    """Images of pure noise with random labels, added to the original images."""

    kind: Literal["pure_noise"] = "pure_noise"
    share: Annotated[float, Field(ge=0, le=MOST_PURE_NOISE, strict=True)] = 0.25
    """Added images as a proportion of the whole training set: 0.5 doubles it. A quarter, as in the paper's mixture."""
    sigma: Sigma = 0.1
    """Standard deviation around the mean pixel, where 1 is the range from black to white."""

    def as_mixture(self) -> Mixture:
        """A mixture of this corruption alone."""
        return Mixture(share=self.share, proportions=Proportions(pure_noise=1), pure_noise_sigma=self.sigma)


class LabelNoise(SpecPart):
    """Some images get a wrong label; their pixels are unchanged."""

    kind: Literal["label_noise"] = "label_noise"
    share: Share = 0.25
    """Proportion of the training images with a wrong label; a quarter, as for the other kinds."""
    flips: Flips = "uniform"
    """How a wrong label replaces label k: `uniform` draws any other label, `pair` takes k + 1 (0 after the last)."""

    def as_mixture(self) -> Mixture:
        """A mixture of this corruption alone."""
        return Mixture(share=self.share, proportions=Proportions(label_noise=1), flips=self.flips)


class NoNoise(SpecPart):
    """No corruption."""

    kind: Literal["none"] = "none"

    def as_mixture(self) -> Mixture:
        """A mixture that corrupts nothing."""
        return Mixture(share=0)


class PaperMixture(SpecPart):
    """The paper's corrupted training set (section 5.1, Figure 4), in four equal parts.

    A third of the original images stays clean, a third gets Gaussian noise, a third loses a
    random number of bottom rows, and images of pure noise with random labels, as many as each
    third, are added.
    """

    kind: Literal["paper_mixture"] = "paper_mixture"

    def as_mixture(self) -> Mixture:
        """The mixture with its defaults."""
        return Mixture()


def _refuse_settings(value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
    """Reject fields of a kind that has none, naming the kinds that have fields; runs before the kind is resolved."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind in ("none", "paper_mixture"):
        for name, setting in value.items():
            if name != "kind":
                msg = (
                    f"there is no such field, got {shown(setting)}; noise of kind {kind!r} has no settings; gaussian, "
                    "missing_rows, pure_noise, label_noise and mixture (by default the paper's) do"
                )
                raise SpecError(msg, field=shown(name).strip("'"))
    return value


AnyNoise = NoNoise | PaperMixture | Gaussian | MissingRows | PureNoise | LabelNoise | Mixture
_Noise = Annotated[AnyNoise, Field(discriminator="kind")]
_Name = Literal["none", "paper_mixture", "gaussian", "missing_rows", "pure_noise", "label_noise", "mixture"]
Noise = Annotated[_Noise, BeforeValidator(_refuse_settings), named("none", _Name | _Noise)]


def require_rows_within(noise: AnyNoise, height: int) -> None:
    """Reject a `max_rows` that would leave an image without rows.

    Args:
        noise: of any kind; those that remove no rows pass.
        height: of the data set's images, in rows.

    Raises:
        SpecError: `max_rows` is at least the height.
    """
    rows = noise.as_mixture().max_rows
    if rows is not None and rows >= height:
        msg = f"the images have {height} rows and keep at least one, so max_rows is at most {height - 1}, got {rows}"
        raise SpecError(msg, field="noise.max_rows")
