"""The data set, and how its training images are split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from intff.spec.base import SpecPart, named


class _Images(SpecPart):
    image_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    labels: ClassVar[tuple[str, ...]] = tuple("0123456789")
    train_images: ClassVar[int] = 60_000
    test_images: ClassVar[int] = 10_000

    train_size: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Training images, drawn at random with the run's seed; null means all that are not held out for validation."""
    validation_size: Annotated[int, Field(ge=1, strict=True)] = 5000
    """Training images held out for validation; every decision made during training is based on them."""


class Mnist(_Images):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28."""

    kind: Literal["mnist"] = "mnist"


class FashionMnist(_Images):
    """Fashion-MNIST: ten kinds of clothing, with the sizes of MNIST."""

    labels: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    kind: Literal["fashion_mnist"] = "fashion_mnist"


class Kmnist(_Images):
    """Kuzushiji-MNIST: ten cursive hiragana, with the sizes of MNIST."""

    labels: ClassVar[tuple[str, ...]] = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

    kind: Literal["kmnist"] = "kmnist"


class Digits(_Images):
    """The 1,797 digits of 8x8 pixels that come with scikit-learn; the last 360 are the test set."""

    image_shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    train_images: ClassVar[int] = 1437
    test_images: ClassVar[int] = 360

    kind: Literal["digits"] = "digits"
    validation_size: Annotated[int, Field(ge=1, strict=True)] = 137
    """Training images held out for validation; every decision made during training is based on them."""


_Dataset = Annotated[Mnist | FashionMnist | Kmnist | Digits, Field(discriminator="kind")]
_Name = Literal["mnist", "fashion_mnist", "kmnist", "digits"]
Dataset = Annotated[_Dataset, named("mnist", _Name | _Dataset)]
