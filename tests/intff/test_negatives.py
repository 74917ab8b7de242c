import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.negatives import random_labels, wrong_labels
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


def test_the_generator_alone_decides() -> None:
    labels = torch.arange(50) % 10
    shuffled = [random_labels(labels, 2, seeded(seed, "test")) for seed in (1, 1, 2)]
    wrong = [wrong_labels(labels, 2, 10, seeded(seed, "test")) for seed in (1, 1, 2)]
    for first, again, other in (shuffled, wrong):
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
