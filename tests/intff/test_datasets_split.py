import sys

import numpy as np
import pytest

from intff import datasets
from intff.errors import MissingExtra
from intff.spec import Digits

# The digits


def test_digits_have_a_fixed_test_set_and_full_range() -> None:
    digits = datasets.load(Digits())
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.train_images.dtype == np.uint8
    assert digits.train_images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # of 16: 0 0 5 13 9 1 0 0
    assert digits.train_images.max() == 255
    assert digits.train_labels[:10].tolist() == list(range(10))
    assert digits.test_labels[-3:].tolist() == [8, 9, 8]
    assert digits.source.startswith("scikit-learn 1.")


def test_without_scikit_learn_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'intff\[train\]'"):
        datasets.load(Digits())


# The split


def numbered(count: int = 1437) -> datasets.Dataset:
    """A data set whose every image says in two pixels which one it is."""
    images = np.arange(count, dtype=">u2").view(np.uint8).reshape(count, 1, 1, 2)
    labels = np.zeros(count, np.uint8)
    return datasets.Dataset(images, labels, images[:3], labels[:3], tuple("0123456789"), "here")


def which(images: np.ndarray) -> list[int]:
    return [int(number) for number in images.reshape(-1, 2).copy().view(">u2").ravel()]


def test_the_parts_are_disjoint_and_leave_nothing_out() -> None:
    split = datasets.split(numbered(), Digits(), seed=0)
    validation, train = which(split.validation_images), which(split.train_images)
    assert len(validation) == len(split.validation_labels) == 137
    assert len(train) == len(split.train_labels) == 1300
    assert sorted(validation + train) == list(range(1437))
    assert which(split.test_images) == [0, 1, 2]


def test_the_validation_set_depends_on_the_seed_alone() -> None:
    whole = datasets.split(numbered(), Digits(), seed=5)
    small = datasets.split(numbered(), Digits(train_size=100), seed=5)
    other = datasets.split(numbered(), Digits(), seed=6)
    assert which(small.validation_images) == which(whole.validation_images)
    assert which(other.validation_images) != which(whole.validation_images)


def test_a_smaller_training_set_is_part_of_a_larger_one() -> None:
    small = which(datasets.split(numbered(), Digits(train_size=100), seed=5).train_images)
    large = which(datasets.split(numbered(), Digits(train_size=200), seed=5).train_images)
    assert len(small) == 100
    assert set(small) < set(large)


def test_labels_stay_with_their_images() -> None:
    digits = datasets.load(Digits())
    split = datasets.split(digits, Digits(), seed=1)
    whole = {image.tobytes(): label for image, label in zip(digits.train_images, digits.train_labels, strict=True)}
    assert all(
        whole[image.tobytes()] == label for image, label in zip(split.train_images, split.train_labels, strict=True)
    )
