"""How the training images are corrupted; the validation and the test images never are.

Every kind but the fixed two has `share`, the part of all images trained on that is corrupted, so that a sweep
turns one number whatever the kind. Every kind is at heart a `Mixture`, and that is what `intff.noise` carries out.
"""

from __future__ import annotations

from math import floor
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from intff.errors import SpecError, shown
from intff.spec.base import SpecPart, named

MOST_PURE_NOISE = 0.9
"""Of all images trained on: the given ones stay, so that nine in ten is ten times as many in all."""

Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Sigma = Annotated[float, Field(ge=0, le=10, strict=True)]
Rows = Annotated[int, Field(ge=1, strict=True)] | None
Flips = Literal["uniform", "pair"]
Weight = Annotated[float, Field(ge=0, le=10**6, strict=True)]


class Proportions(SpecPart):
    """How the corrupted images divide among the kinds, as weights: 1, 1, 2 is a quarter, a quarter and a half."""

    gaussian: Weight = 0.0
    missing_rows: Weight = 0.0
    pure_noise: Weight = 0.0
    label_noise: Weight = 0.0

    @model_validator(mode="after")
    def _require_some(self) -> Self:
        if self.total == 0:
            msg = f"at least one of {', '.join(type(self).model_fields)} must be above 0, got 0 for each"
            raise SpecError(msg)
        return self

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return self.gaussian + self.missing_rows + self.pure_noise + self.label_noise


class Counts(NamedTuple):
    """How many images suffer what; no image suffers two."""

    gaussian: int
    missing_rows: int
    pure_noise: int
    """Added to the given images."""
    label_noise: int


class Mixture(SpecPart):
    """Several corruptions at once; the defaults are the paper's mixture.

    Pure noise is added to the given images, as in the paper, and the rest is done to them: the
    set that is trained on grows with the share of pure noise, and no given image is dropped.
    """

    kind: Literal["mixture"] = "mixture"
    share: Share = 0.75
    """Corrupted images, of all that are trained on; the rest is clean."""
    proportions: Proportions = Proportions(gaussian=1, missing_rows=1, pure_noise=1)
    """How the corrupted images divide among the kinds; a kind that is left out gets none."""
    gaussian_sigma: Sigma = 0.1
    """Standard deviation of the Gaussian noise, where 1 is the span from black to white."""
    max_rows: Rows = None
    """The most bottom rows that an image loses; null is all but one."""
    pure_noise_sigma: Sigma = 0.1
    """Standard deviation of the pure noise around the mean pixel."""
    flips: Flips = "uniform"
    """What becomes of a flipped label k: any wrong one, or the next, k + 1 (the last one's next is 0)."""

    @model_validator(mode="after")
    def _keep_the_given_images(self) -> Self:
        pure = self._part(self.proportions.pure_noise)
        if pure > MOST_PURE_NOISE:
            msg = (
                f"{MOST_PURE_NOISE} of the images trained on can be pure noise at most, because the given ones stay; "
                f"a share of {self.share} makes it {pure:.3g}: lower share or proportions.pure_noise"
            )
            raise SpecError(msg, field="share")
        return self

    def _part(self, weight: float) -> float:
        return self.share * weight / self.proportions.total

    def counts(self, images: int) -> Counts:
        """What happens to so many given images, in whole images; a remainder stays clean."""
        given = 1 - self._part(self.proportions.pure_noise)  # of all images trained on
        # A hair is added so that 0.29 of 100 is 29, although floats make it a little less.
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
    """Corrupted images, of all that are trained on; a quarter, as in the paper's set."""
    sigma: Sigma = 0.1
    """Standard deviation, where 1 is the span from black to white."""

    def as_mixture(self) -> Mixture:
        """The mixture of this alone."""
        return Mixture(share=self.share, proportions=Proportions(gaussian=1), gaussian_sigma=self.sigma)


class MissingRows(SpecPart):
    """Some images lose their bottom rows: from one to `max_rows`, each number as likely."""

    kind: Literal["missing_rows"] = "missing_rows"
    share: Share = 0.25
    """Corrupted images, of all that are trained on; a quarter, as in the paper's set."""
    max_rows: Rows = None
    """The most rows that an image loses; null is all but one."""

    def as_mixture(self) -> Mixture:
        """The mixture of this alone."""
        return Mixture(share=self.share, proportions=Proportions(missing_rows=1), max_rows=self.max_rows)


class PureNoise(SpecPart):
    """Images of nothing but noise, with random labels, added to the given ones."""

    kind: Literal["pure_noise"] = "pure_noise"
    share: Annotated[float, Field(ge=0, le=MOST_PURE_NOISE, strict=True)] = 0.25
    """Added images, of all that are trained on: 0.5 doubles the set. A quarter, as in the paper's set."""
    sigma: Sigma = 0.1
    """Standard deviation around the mean pixel, where 1 is the span from black to white."""

    def as_mixture(self) -> Mixture:
        """The mixture of this alone."""
        return Mixture(share=self.share, proportions=Proportions(pure_noise=1), pure_noise_sigma=self.sigma)


class LabelNoise(SpecPart):
    """Some images get a wrong label; their pixels stay as they are."""

    kind: Literal["label_noise"] = "label_noise"
    share: Share = 0.25
    """Images with a wrong label, of all that are trained on; a quarter, as of every other kind."""
    flips: Flips = "uniform"
    """What becomes of label k: any wrong one, or the next, k + 1 (the last one's next is 0)."""

    def as_mixture(self) -> Mixture:
        """The mixture of this alone."""
        return Mixture(share=self.share, proportions=Proportions(label_noise=1), flips=self.flips)


class NoNoise(SpecPart):
    """The images as they are."""

    kind: Literal["none"] = "none"

    def as_mixture(self) -> Mixture:
        """A mixture of which nothing is corrupted."""
        return Mixture(share=0)


class PaperMixture(SpecPart):
    """The paper's corrupted training set (section 5.1, Figure 4), four equal shares.

    A third of the training images stays clean, a third gets Gaussian noise, a third loses a
    random number of bottom rows, and as many images again are pure noise with random labels.
    """

    kind: Literal["paper_mixture"] = "paper_mixture"

    def as_mixture(self) -> Mixture:
        """The mixture with its defaults."""
        return Mixture()


def _refuse_settings(value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
    """Tell who sets something of a kind without settings which kinds have them; checked before the kind is chosen."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind in ("none", "paper_mixture"):
        for name, setting in value.items():
            if name != "kind":
                msg = (
                    f"there is no such field, got {shown(setting)}; noise of the kind {kind!r} has no settings; "
                    "gaussian, missing_rows, pure_noise, label_noise and mixture (by default the paper's) have"
                )
                raise SpecError(msg, field=shown(name).strip("'"))
    return value


AnyNoise = NoNoise | PaperMixture | Gaussian | MissingRows | PureNoise | LabelNoise | Mixture
_Noise = Annotated[AnyNoise, Field(discriminator="kind")]
_Name = Literal["none", "paper_mixture", "gaussian", "missing_rows", "pure_noise", "label_noise", "mixture"]
Noise = Annotated[_Noise, BeforeValidator(_refuse_settings), named("none", _Name | _Noise)]


def require_rows_within(noise: AnyNoise, height: int) -> None:
    """Refuse to take more rows from an image than all but one.

    Args:
        noise: any kind; those that take no rows pass.
        height: of the data set's images, in rows.

    Raises:
        SpecError: `max_rows` is the height or more.
    """
    rows = noise.as_mixture().max_rows
    if rows is not None and rows >= height:
        msg = f"the images have {height} rows and keep at least one, so at most {height - 1} can be lost, got {rows}"
        raise SpecError(msg, field="noise.max_rows")
