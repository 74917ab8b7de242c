import numpy as np
import pytest

from intff.noise import corrupt, gaussian, missing_rows, pure_noise


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grey(count: int, value: int = 128) -> np.ndarray:
    return np.full((count, 1, 28, 28), value, np.uint8)


def test_without_noise_the_arrays_come_back_untouched() -> None:
    images, labels = grey(3), np.array([1, 2, 3], np.uint8)
    same_images, same_labels = corrupt(images, labels, "none", rng(), 10)
    assert same_images is images
    assert same_labels is labels


def test_the_mixture_has_four_equal_shares() -> None:
    images, labels = grey(300), np.full(300, 7, np.uint8)
    mixed, mixed_labels = corrupt(images, labels, "paper_mixture", rng(), 10)
    assert mixed.shape == (400, 1, 28, 28)
    assert mixed.dtype == np.uint8
    given = mixed[:300, 0]
    clean = (given == 128).all(axis=(1, 2))
    cut = (given[:, -1] == 0).all(axis=1)
    assert clean.sum() == 100
    assert cut.sum() == 100
    assert (~clean & ~cut).sum() == 100
    assert (mixed_labels[:300] == 7).all()
    assert set(mixed_labels[300:]) == set(range(10))


def test_the_given_images_are_left_unchanged() -> None:
    images = grey(9)
    corrupt(images, np.zeros(9, np.uint8), "paper_mixture", rng(), 10)
    assert (images == 128).all()


def test_what_three_does_not_divide_stays_clean() -> None:
    mixed, labels = corrupt(grey(5), np.zeros(5, np.uint8), "paper_mixture", rng(), 10)
    assert len(mixed) == len(labels) == 6
    assert (mixed[:5] == 128).all(axis=(1, 2, 3)).sum() == 3


def test_the_same_seed_gives_the_same_corruption() -> None:
    labels = np.zeros(30, np.uint8)
    one, other = (corrupt(grey(30), labels, "paper_mixture", rng(4), 10) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()


def test_gaussian_noise_has_the_sigma_asked_for() -> None:
    noise = gaussian(grey(200), rng()).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert noise.std() == pytest.approx(25.5, abs=0.2)  # a tenth of 255


def test_gaussian_noise_stays_within_a_byte() -> None:
    assert gaussian(grey(10, 255), rng()).max() == 255
    assert gaussian(grey(10, 255), rng()).min() > 100  # nothing wraps around
    assert gaussian(grey(10, 0), rng()).max() < 155


def test_one_to_all_but_one_bottom_rows_are_missing() -> None:
    cut = missing_rows(grey(2000), rng())
    lost = (cut[:, 0, :, 0] == 0).sum(axis=1)
    assert lost.min() == 1
    assert lost.max() == 27
    assert lost.mean() == pytest.approx(14, abs=0.5)
    assert (cut[:, :, 0] == 128).all()
    assert all((image[0, 28 - rows :] == 0).all() for image, rows in zip(cut, lost, strict=True))


def test_an_image_of_one_row_loses_none() -> None:
    assert (missing_rows(np.full((4, 1, 1, 5), 9, np.uint8), rng()) == 9).all()


def test_pure_noise_lies_around_the_mean_pixel() -> None:
    noise, labels = pure_noise(np.concatenate([grey(1, 100), grey(1, 140)]), 100, rng(), 4)
    assert noise.shape == (100, 1, 28, 28)
    assert noise.mean() == pytest.approx(120, abs=0.3)
    assert noise.std() == pytest.approx(25.5, abs=0.2)
    assert set(labels) == {0, 1, 2, 3}
    assert labels.dtype == np.uint8
