import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intff.noise import PURPOSE, corrupt, gaussian, missing_rows, pure_noise, wrong_labels
from intff.spec import (
    Gaussian,
    LabelNoise,
    MissingRows,
    Mixture,
    NoNoise,
    PaperMixture,
    Proportions,
    PureNoise,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grey(count: int, value: int = 128) -> np.ndarray:
    return np.full((count, 1, 28, 28), value, np.uint8)


def test_without_noise_the_arrays_come_back_untouched() -> None:
    images, labels = grey(3), np.array([1, 2, 3], np.uint8)
    same_images, same_labels = corrupt(images, labels, NoNoise(), rng(), 10)
    assert same_images is images
    assert same_labels is labels


def test_the_mixture_has_four_equal_shares() -> None:
    images, labels = grey(300), np.full(300, 7, np.uint8)
    mixed, mixed_labels = corrupt(images, labels, PaperMixture(), rng(), 10)
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
    corrupt(images, np.zeros(9, np.uint8), PaperMixture(), rng(), 10)
    assert (images == 128).all()


def test_what_three_does_not_divide_stays_clean() -> None:
    mixed, labels = corrupt(grey(5), np.zeros(5, np.uint8), PaperMixture(), rng(), 10)
    assert len(mixed) == len(labels) == 6
    assert (mixed[:5] == 128).all(axis=(1, 2, 3)).sum() == 3


def test_the_same_seed_gives_the_same_corruption() -> None:
    labels = np.zeros(30, np.uint8)
    one, other = (corrupt(grey(30), labels, PaperMixture(), rng(4), 10) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()


def test_gaussian_noise_has_the_sigma_asked_for() -> None:
    noise = gaussian(grey(200), rng(), 0.1).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert noise.std() == pytest.approx(25.5, abs=0.2)  # a tenth of 255


def test_gaussian_noise_stays_within_a_byte() -> None:
    assert gaussian(grey(10, 255), rng(), 0.1).max() == 255
    assert gaussian(grey(10, 255), rng(), 0.1).min() > 100  # nothing wraps around
    assert gaussian(grey(10, 0), rng(), 0.1).max() < 155


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
    noise, labels = pure_noise(np.concatenate([grey(1, 100), grey(1, 140)]), 100, rng(), 4, 0.1)
    assert noise.shape == (100, 1, 28, 28)
    assert noise.mean() == pytest.approx(120, abs=0.3)
    assert noise.std() == pytest.approx(25.5, abs=0.2)
    assert set(labels) == {0, 1, 2, 3}
    assert labels.dtype == np.uint8


def test_fewer_rows_may_be_missing() -> None:
    lost = (missing_rows(grey(2000), rng(), 4)[:, 0, :, 0] == 0).sum(axis=1)
    assert set(lost) == {1, 2, 3, 4}


def test_the_papers_mixture_is_what_it_always_was() -> None:
    """The hash is of the first version's output, before there were other kinds of noise."""
    images = (np.arange(61 * 784) * 37 % 251).astype(np.uint8).reshape(61, 1, 28, 28)
    labels = (np.arange(61) % 10).astype(np.uint8)
    for noise in (PaperMixture(), Mixture()):
        mixed, mixed_labels = corrupt(images, labels, noise, np.random.default_rng([3, 1]), 10)
        digest = hashlib.sha256(mixed.tobytes() + mixed_labels.tobytes()).hexdigest()
        assert digest == "6d6d59750468bc6fff0888ef173dfa46bc0e2983e9877a90ef5ff3bde46283a1"


def test_more_images_than_are_floats_at_once_are_what_they_always_were() -> None:
    """A share of 1,166 images; the hash is of the first version's output, which made them all at once."""
    images = (np.arange(3500 * 784) % 251).astype(np.uint8).reshape(3500, 1, 28, 28)
    labels = (np.arange(3500) % 10).astype(np.uint8)
    mixed, mixed_labels = corrupt(images, labels, PaperMixture(), np.random.default_rng([0, PURPOSE]), 10)
    digest = hashlib.sha256(mixed.tobytes() + mixed_labels.tobytes()).hexdigest()
    assert digest == "ab460f324686a0997e661a99d3e19bc659b611566c0172fbc562bb23751f8da6"


def test_uniform_flips_are_never_true_and_every_wrong_label_as_likely() -> None:
    """9,000 labels have 9 wrong ones each: 1,000 times every one, give or take 5 standard deviations of 30."""
    flipped = wrong_labels(np.full(9000, 4, np.uint8), rng(), 10, "uniform")
    counts = np.bincount(flipped, minlength=10)
    assert counts[4] == 0
    assert all(abs(counts[label] - 1000) < 150 for label in range(10) if label != 4)


def test_pair_flips_go_to_the_next_label() -> None:
    assert wrong_labels(np.array([0, 4, 9], np.uint8), rng(), 10, "pair").tolist() == [1, 5, 0]


@pytest.mark.parametrize(
    ("noise", "counts"),
    [
        (NoNoise(), (0, 0, 0, 0)),
        (PaperMixture(), (300, 300, 300, 0)),  # of 900 given and 300 added, a quarter each
        (Gaussian(share=0.5), (450, 0, 0, 0)),
        (MissingRows(share=1), (0, 900, 0, 0)),
        (PureNoise(share=0.5), (0, 0, 900, 0)),  # as many again
        (PureNoise(share=0.9), (0, 0, 8100, 0)),
        (LabelNoise(share=0.29), (0, 0, 0, 261)),
        (Mixture(share=0.4, proportions=Proportions(gaussian=3, label_noise=1)), (270, 0, 0, 90)),
        (Mixture(share=0.9), (385, 385, 385, 0)),  # 900 given are 0.7 of 1285.7, of which 0.3 are 385.7
    ],
)
def test_shares_are_of_all_images_that_are_trained_on(noise: Mixture, counts: tuple[int, ...]) -> None:
    assert tuple(noise.as_mixture().counts(900)) == counts
    images, labels = grey(900), np.full(900, 7, np.uint8)
    mixed, mixed_labels = corrupt(images, labels, noise, rng(), 10)
    assert len(mixed) == len(mixed_labels) == 900 + counts[2]
    given = mixed[:900, 0]
    cut = (given[:, -1] == 0).all(axis=1)
    noisy = ~cut & (given != 128).any(axis=(1, 2))
    assert (noisy.sum(), cut.sum()) == counts[:2]
    assert (mixed_labels[:900] != 7).sum() == counts[3]


@given(
    st.floats(0, 0.9),
    st.lists(st.floats(0, 10), min_size=4, max_size=4).filter(lambda weights: sum(weights) > 0.1),
    st.integers(0, 3000),
)
def test_no_mixture_takes_more_images_than_there_are(share: float, weights: list[float], images: int) -> None:
    names = ("gaussian", "missing_rows", "pure_noise", "label_noise")
    mixture = Mixture(share=share, proportions=Proportions(**dict(zip(names, weights, strict=True))))
    counts = mixture.counts(images)
    assert min(counts) >= 0
    assert counts.gaussian + counts.missing_rows + counts.label_noise <= images
    whole = images + counts.pure_noise
    assert sum(counts) == pytest.approx(share * whole, abs=5)


KINDS = st.one_of(
    st.builds(Gaussian, share=st.floats(0, 1), sigma=st.floats(0, 1)),
    st.builds(MissingRows, share=st.floats(0, 1), max_rows=st.none() | st.integers(1, 7)),
    st.builds(PureNoise, share=st.floats(0, 0.9), sigma=st.floats(0, 1)),
    st.builds(LabelNoise, share=st.floats(0, 1), flips=st.sampled_from(["uniform", "pair"])),
    st.builds(
        Mixture,
        share=st.floats(0, 0.9),
        proportions=st.builds(
            Proportions,
            gaussian=st.floats(0.1, 9),
            missing_rows=st.floats(0.1, 9),
            pure_noise=st.floats(0, 9),
            label_noise=st.floats(0, 9),
        ),
        max_rows=st.none() | st.integers(1, 7),
        flips=st.sampled_from(["uniform", "pair"]),
    ),
)


@given(KINDS, st.integers(1, 60), st.integers(2, 10), st.integers(0, 2**53 - 1))
def test_no_image_suffers_twice_and_the_seed_decides_all(noise: Mixture, count: int, classes: int, seed: int) -> None:
    images = np.full((count, 1, 8, 8), 128, np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    mixed, mixed_labels = corrupt(images, labels, noise, rng(seed), classes)
    again, again_labels = corrupt(images, labels, noise, rng(seed), classes)
    assert mixed.dtype == mixed_labels.dtype == np.uint8
    assert mixed.tobytes() == again.tobytes()
    assert mixed_labels.tobytes() == again_labels.tobytes()
    assert (images == 128).all()
    assert (labels == np.arange(count) % classes).all()
    assert mixed_labels.max() < classes
    counts = noise.as_mixture().counts(count)
    touched = (mixed[:count] != 128).any(axis=(1, 2, 3))
    flipped = mixed_labels[:count] != labels
    assert not (touched & flipped).any()
    assert flipped.sum() == counts.label_noise
    assert counts.missing_rows <= touched.sum() <= counts.missing_rows + counts.gaussian  # a tiny sigma changes no byte


@pytest.mark.parametrize("noise", [Gaussian, MissingRows, LabelNoise])
def test_a_larger_share_corrupts_what_a_smaller_one_does_and_more(
    noise: type[Gaussian | MissingRows | LabelNoise],
) -> None:
    """So a sweep of one kind compares training sets that contain each other's damage."""
    images, labels = grey(200), np.full(200, 7, np.uint8)

    def corrupted(share: float) -> set[int]:
        mixed, mixed_labels = corrupt(images, labels, noise(share=share), rng(), 10)
        return set(np.flatnonzero((mixed != 128).any(axis=(1, 2, 3)) | (mixed_labels != 7)))

    assert len(corrupted(0.2)) == 40
    assert corrupted(0.2) < corrupted(0.5) < corrupted(1)
