import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from intff.batches import Batch, Movable, Shuffled, as_floats, draw_epoch
from intff.seeds import seeded

PICTURE = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)
SHIFTED = [
    [[5, 6, 0], [8, 9, 0], [0, 0, 0]],
    [[4, 5, 6], [7, 8, 9], [0, 0, 0]],
    [[0, 4, 5], [0, 7, 8], [0, 0, 0]],
    [[2, 3, 0], [5, 6, 0], [8, 9, 0]],
    [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    [[0, 1, 2], [0, 4, 5], [0, 7, 8]],
    [[0, 0, 0], [2, 3, 0], [5, 6, 0]],
    [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
    [[0, 0, 0], [0, 1, 2], [0, 4, 5]],
]


def _numbered(count: int) -> tuple[Tensor, Tensor]:
    """Images of one pixel that holds their number, and the same as labels."""
    numbers = torch.arange(count)
    return numbers.to(torch.uint8).reshape(-1, 1, 1, 1), numbers


def _next_label(images: Shuffled, labels: Tensor, generator: Generator) -> Tensor:
    """Of the very images that are shown, in their order."""
    del generator
    assert torch.equal(images[:].flatten().long(), labels)
    return labels.unsqueeze(1) + 1


def _epoch(count: int, *, batch_size: int = 7, seed: int = 0, epoch: int = 1) -> list[Batch]:
    images, labels = _numbered(count)
    movable = Movable(images, jitter=0)
    drawn = draw_epoch(movable, labels, seed=seed, epoch=epoch, draw_negatives=_next_label)
    return [movable.batch(*part) for part in drawn.parts(batch_size)]


def shift(images: Tensor, order: Tensor, jitter: int) -> Tensor:
    movable = Movable(images, jitter)
    return movable.cut(movable.starts(order, seeded(0, "test")))


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 2**63 - 1))
def test_an_epoch_shows_every_image_once_with_its_own_label_and_negatives(
    count: int, batch_size: int, seed: int
) -> None:
    batches = _epoch(count, batch_size=batch_size, seed=seed)
    assert [len(batch.labels) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    images = torch.cat([batch.images for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    negatives = torch.cat([batch.negatives for batch in batches])
    assert sorted(labels.tolist()) == list(range(count))
    assert torch.equal(images, labels.view(-1, 1, 1, 1) / 255)
    assert torch.equal(negatives, labels.unsqueeze(1) + 1)


def test_an_epochs_order_is_its_own_and_can_be_repeated() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        labels: list[int] = torch.cat([batch.labels for batch in _epoch(100, seed=seed, epoch=epoch)]).tolist()
        return labels

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_a_shifted_picture_is_one_of_nine() -> None:
    moved = shift(PICTURE[None, None], torch.zeros(900, dtype=torch.int64), 1)
    assert moved.shape == (900, 1, 3, 3)
    assert moved.dtype == torch.uint8
    found = [picture[0].tolist() for picture in moved]
    assert all(picture in SHIFTED for picture in found)
    # 100 of each, give or take 5 standard deviations of 9.4.
    assert all(abs(found.count(picture) - 100) < 48 for picture in SHIFTED)


def test_no_jitter_only_reorders() -> None:
    images = torch.stack([PICTURE, PICTURE + 10])[:, None]
    moved = shift(images, torch.tensor([1, 0, 1]), 0)
    assert moved[:, 0, 0, 0].tolist() == [11, 1, 11]


def test_every_channel_moves_alike() -> None:
    images = torch.stack([PICTURE, PICTURE]).unsqueeze(0)  # [1, 2, 3, 3]
    moved = shift(images, torch.zeros(50, dtype=torch.int64), 2)
    assert torch.equal(moved[:, 0], moved[:, 1])


def test_a_jitter_may_be_as_large_as_the_picture() -> None:
    moved = shift(PICTURE[None, None], torch.zeros(500, dtype=torch.int64), 3)
    assert int(moved.flatten(1).max(dim=1).values.min()) == 0  # some are pushed out of sight


def test_bytes_become_floats_of_the_same_shape() -> None:
    floats = as_floats(torch.tensor([[[[0, 51], [255, 102]]]], dtype=torch.uint8))
    assert floats.shape == (1, 1, 2, 2)
    assert floats.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0, 0.4])


def test_negatives_are_made_of_the_shifted_images() -> None:
    shown: list[Tensor] = []

    def keep(images: Shuffled, labels: Tensor, generator: Generator) -> Tensor:
        del labels, generator
        shown.append(images[:])
        return shown[0]

    movable = Movable(PICTURE.expand(20, 1, 3, 3), jitter=1)
    drawn = draw_epoch(movable, torch.arange(20), seed=0, epoch=1, draw_negatives=keep)
    found = [movable.batch(*part) for part in drawn.parts(6)]
    assert torch.equal(torch.cat([batch.images for batch in found]), as_floats(shown[0]))
    assert torch.equal(torch.cat([batch.negatives for batch in found]), shown[0])
    assert not torch.equal(shown[0], PICTURE.expand(20, 1, 3, 3))
