from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from intff.negatives import (
    all_wrong_labels,
    gaussian_images,
    gumbel_noise,
    hardest_labels,
    hybrids,
    noisy_copies,
    random_labels,
    rotated,
    wrong_labels,
)
from intff.seeds import seeded

SEEDS = st.integers(0, 2**63 - 1)


@given(st.data(), SEEDS)
def test_wrong_labels_are_never_true_and_never_twice_the_same(data: st.DataObject, seed: int) -> None:
    classes = data.draw(st.integers(2, 12))
    count = data.draw(st.integers(1, classes - 1))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=40)))
    drawn = wrong_labels(labels, count, classes, seeded(seed, "test"))
    assert drawn.shape == (len(labels), count)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < classes
    assert not bool((drawn == labels.unsqueeze(1)).any())
    assert all(len(set(row)) == count for row in drawn.tolist())


def test_all_wrong_labels_are_every_label_but_the_true_one() -> None:
    drawn = wrong_labels(torch.tensor([0, 2]), 3, 4, seeded(0, "test"))
    assert [sorted(row) for row in drawn.tolist()] == [[1, 2, 3], [0, 1, 3]]


def test_all_wrong_labels_are_all_but_the_true_one() -> None:
    assert all_wrong_labels(torch.tensor([0, 2]), classes=4).tolist() == [[1, 2, 3], [3, 0, 1]]


def test_wrong_labels_are_uniform_in_every_column() -> None:
    """30,000 draws of 3 equally likely labels: 10,000 each, give or take 5 standard deviations of 82."""
    drawn = wrong_labels(torch.full((30_000,), 1), 3, 4, seeded(0, "test"))
    for column in drawn.T:
        counts = torch.bincount(column, minlength=4).tolist()
        assert counts[1] == 0
        assert all(abs(counts[label] - 10_000) < 410 for label in (0, 2, 3))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 4), SEEDS)
def test_random_labels_are_the_same_labels_in_another_order(labels: list[int], count: int, seed: int) -> None:
    drawn = random_labels(torch.tensor(labels), count, seeded(seed, "test"))
    assert drawn.shape == (len(labels), count)
    assert all(sorted(column) == sorted(labels) for column in drawn.T.tolist())


def test_about_one_in_ten_random_labels_is_true() -> None:
    labels = torch.arange(20_000) % 10
    drawn = random_labels(labels, 2, seeded(0, "test"))
    share = float((drawn == labels.unsqueeze(1)).double().mean())
    assert abs(share - 0.1) < 0.01
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


@given(st.data(), SEEDS)
def test_hard_labels_are_never_true_and_never_twice_the_same(data: st.DataObject, seed: int) -> None:
    classes, images = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 40))
    count = data.draw(st.integers(1, classes - 1))
    scale = data.draw(st.sampled_from([0.0, 1.0, 1e4]))
    generator = seeded(seed, "test")
    labels = torch.randint(classes, (images, 1), generator=generator)
    goodness = torch.rand((images, classes), generator=generator) * scale
    drawn = hardest_labels(goodness, labels, gumbel_noise(images, classes, generator), count)
    assert drawn.shape == (images, count)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < classes
    assert not bool((drawn == labels).any())
    assert all(len(set(row)) == count for row in drawn.tolist())


def test_hard_labels_are_drawn_by_the_softmax_of_their_goodness() -> None:
    """40,000 draws, the true label 1 left out; give or take 5 standard deviations."""
    draws = 40_000
    weights = torch.tensor([1.0, 99.0, 2.0, 5.0])
    goodness = weights.log().expand(draws, -1)
    drawn = hardest_labels(goodness, torch.ones(draws, 1).long(), gumbel_noise(draws, 4, seeded(0, "test")), 2)
    first = torch.bincount(drawn[:, 0], minlength=4).tolist()
    for label, share in ((0, 1 / 8), (1, 0.0), (2, 2 / 8), (3, 5 / 8)):
        assert abs(first[label] - draws * share) <= 5 * (draws * share * (1 - share)) ** 0.5
    # The second is drawn among those left: after 3, label 2 has 2 of 3 parts; after 2, label 3 has 5 of 6; and so on.
    second = torch.bincount(drawn[:, 1], minlength=4).tolist()
    for label, share in (
        (0, 5 / 8 / 3 + 2 / 8 / 6),
        (2, 5 / 8 * 2 / 3 + 1 / 8 * 2 / 7),
        (3, 2 / 8 * 5 / 6 + 5 / 8 / 7),
    ):
        assert abs(second[label] - draws * share) <= 5 * (draws * share * (1 - share)) ** 0.5


def test_enormous_goodness_leaves_no_choice() -> None:
    goodness = torch.tensor([[0.0, 9e8, 1e6, 3e5]]).repeat(50, 1)
    drawn = hardest_labels(goodness, torch.ones(50, 1).long(), gumbel_noise(50, 4, seeded(0, "test")), 2)
    assert drawn.tolist() == [[2, 3]] * 50


def test_gumbel_noise_is_gumbels() -> None:
    """Its mean is Euler's 0.577216 and its variance pi squared over 6; 40,000 numbers, 5 standard deviations."""
    noise = gumbel_noise(10_000, 4, seeded(0, "test"))
    assert bool(noise.isfinite().all())
    assert noise.mean().item() == pytest.approx(0.577216, abs=5 * 1.2825 / 200)
    assert noise.var().item() == pytest.approx(1.644934, abs=5 * 1.644934 * (4.4 / 40_000) ** 0.5)


def _pictures(images: int, side: int = 8, channels: int = 1) -> Tensor:
    """No two of them share a pixel's value."""
    numbers = torch.arange(images).view(-1, 1, 1, 1) * 7 + 1
    return numbers.repeat(1, channels, side, side).to(torch.uint8)


@given(st.integers(2, 30), st.integers(1, 3), st.integers(5, 28), SEEDS)
def test_a_hybrid_takes_each_pixel_from_one_of_two_images(images: int, channels: int, side: int, seed: int) -> None:
    given_images = _pictures(images, side, channels)
    mixed = hybrids(given_images, seeded(seed, "test"))
    assert mixed.shape == given_images.shape
    assert mixed.dtype == torch.uint8
    assert torch.equal(mixed, mixed[:, :1].expand(-1, channels, -1, -1))  # one mask for all channels
    others = [
        set(hybrid.unique().tolist()) - {own}
        for hybrid, own in zip(mixed, given_images[:, 0, 0, 0].tolist(), strict=True)
    ]
    assert all(len(other) <= 1 for other in others)
    assert int(given_images[0, 0, 0, 0]) == 1


def test_hybrids_are_blobs_of_about_a_half() -> None:
    """Blurred noise changes seldom from a pixel to the next; unblurred every second time."""
    given_images = _pictures(30, side=28)
    mixed = hybrids(given_images, seeded(0, "test"))
    own = (mixed == given_images).double()
    assert own.mean().item() == pytest.approx(0.5, abs=0.05)
    assert (own.diff(dim=3).abs().mean()).item() < 0.2
    assert (own.diff(dim=2).abs().mean()).item() < 0.2
    assert float(own.mean(dim=(1, 2, 3)).min()) > 0.1
    assert float(own.mean(dim=(1, 2, 3)).max()) < 0.9


def test_the_only_image_has_no_other() -> None:
    assert torch.equal(hybrids(_pictures(1), seeded(0, "test")), _pictures(1))


def test_a_rotated_image_is_one_of_three() -> None:
    """Of 900, 300 each, give or take 5 standard deviations of 14.1."""
    picture = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    turned = [[[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    found = rotated(picture.expand(900, 1, 2, 2), seeded(0, "test"))
    assert found.dtype == torch.uint8
    pictures = [image[0].tolist() for image in found]
    assert all(image in turned for image in pictures)
    assert all(abs(pictures.count(image) - 300) < 71 for image in turned)


def test_every_channel_turns_alike() -> None:
    images = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).repeat(20, 2, 1, 1)
    found = rotated(images, seeded(0, "test"))
    assert torch.equal(found[:, 0], found[:, 1])


def test_a_noisy_copy_is_its_image_with_noise_of_the_given_deviation() -> None:
    """Grey 128 with a deviation of 0.1 of 255; 64,000 pixels, 5 standard deviations; rounding adds a twelfth."""
    grey = torch.full((1000, 1, 8, 8), 128, dtype=torch.uint8)
    noise = noisy_copies(grey, 0.1, seeded(0, "test")).double() - 128
    assert noise.mean().item() == pytest.approx(0, abs=5 * 25.5 / 64_000**0.5)
    assert noise.var().item() == pytest.approx(25.5**2 + 1 / 12, rel=5 * (2 / 64_000) ** 0.5)
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    loud = noisy_copies(ends.expand(100, 1, 1, 2), 10.0, seeded(0, "test"))
    assert loud.dtype == torch.uint8
    assert 0 in loud[..., 1]  # cut at black and white, where a byte would start over
    assert 255 in loud[..., 0]
    quiet = noisy_copies(ends.expand(100, 1, 1, 2), 0.02, seeded(0, "test"))
    assert int(quiet[..., 0].max()) < 40
    assert int(quiet[..., 1].min()) > 215


def test_gaussian_images_have_the_images_mean_and_deviation_and_nothing_else_of_theirs() -> None:
    """Half 118, half 138: mean 128 and deviation 10; 64,000 pixels, 5 standard deviations."""
    images = torch.full((1000, 1, 8, 8), 118, dtype=torch.uint8)
    images[..., 4:] = 138
    noise = gaussian_images(images, seeded(0, "test"))
    assert noise.dtype == torch.uint8
    assert noise.shape == images.shape
    values = noise.double()
    assert values.mean().item() == pytest.approx(128, abs=5 * 10 / 64_000**0.5)
    assert values.var().item() == pytest.approx(100 + 1 / 12, rel=5 * (2 / 64_000) ** 0.5)
    left, right = values[..., :4].mean().item(), values[..., 4:].mean().item()
    assert abs(left - right) < 5 * 10 * (4 / 64_000) ** 0.5


def test_the_generator_alone_decides() -> None:
    labels, images = torch.arange(50) % 10, _pictures(30)
    draws: list[Callable[[Generator], Tensor]] = [
        lambda generator: random_labels(labels, 2, generator),
        lambda generator: wrong_labels(labels, 2, 10, generator),
        lambda generator: gumbel_noise(50, 10, generator),
        lambda generator: hybrids(images, generator),
        lambda generator: rotated(images + torch.arange(8, dtype=torch.uint8), generator),
        lambda generator: noisy_copies(images, 0.5, generator),
        lambda generator: gaussian_images(images, generator),
    ]
    for draw in draws:
        first, again, other = (draw(seeded(seed, "test")) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
