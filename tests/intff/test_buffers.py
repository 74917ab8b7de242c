"""The two buffers of a pass: whose turn it is, what fits, and when there are none."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from intff.buffers import alternating_buffers, next_buffer
from intff.layers import ACTIVATIONS, Dense
from intff.seeds import seeded


def at(buffer: Tensor | None) -> int:
    assert buffer is not None
    return buffer.data_ptr()


@torch.inference_mode()
def test_the_two_are_filled_in_turn_whatever_is_asked_for() -> None:
    like = torch.zeros(1)
    with alternating_buffers():
        first, second = at(next_buffer(like, 300, 20)), at(next_buffer(like, 200, 30))
        third = next_buffer(like, 7, 3, 2)
        assert third is not None
        assert third.shape == (7, 3, 2)
        assert third.is_contiguous()
        assert [at(third), at(next_buffer(like, 6000))] == [first, second]
        assert first != second


@torch.inference_mode()
def test_one_that_is_too_small_or_of_another_type_is_replaced() -> None:
    with alternating_buffers():
        for like, rows in ((torch.zeros(1), 2), (torch.zeros(1), 2000), (torch.zeros(1, dtype=torch.float64), 3)):
            for _ in range(2):
                buffer = next_buffer(like, rows, 5)
                assert buffer is not None
                assert (buffer.shape, buffer.dtype) == ((rows, 5), like.dtype)


@torch.inference_mode()
def test_a_layer_reads_what_the_layer_before_it_gave_and_writes_elsewhere() -> None:
    layers = [Dense(20, 20, ACTIVATIONS["relu"], seeded(number, "test")) for number in range(5)]
    images = torch.rand((40, 20), generator=seeded(0, "images"))
    expected, found = images, images
    for layer in layers:
        expected = layer(expected)
    with alternating_buffers():
        for layer in layers:
            found = layer(found)
    assert torch.equal(found, expected)


def test_there_are_none_outside_nor_for_another_thread_nor_where_a_gradient_follows() -> None:
    like = torch.zeros(1)
    found: list[Tensor | None] = []

    def of_another_thread() -> None:
        with torch.no_grad():
            found.append(next_buffer(like, 2))

    with alternating_buffers():
        assert next_buffer(like, 2) is None
        another = threading.Thread(target=of_another_thread)
        another.start()
        another.join()
    with torch.no_grad():
        found.append(next_buffer(like, 2))
    assert found == [None, None]


@torch.no_grad()
def test_they_are_gone_after_an_error() -> None:
    with pytest.raises(KeyError), alternating_buffers():
        raise KeyError
    assert next_buffer(torch.zeros(1), 2) is None
