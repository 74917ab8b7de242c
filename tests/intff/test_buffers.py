"""The buffers of a pass: which one is free, and when there are none."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from intff.buffers import free_buffer, reused_buffers
from intff.layers import ACTIVATIONS, Dense
from intff.seeds import seeded


def at(buffer: Tensor | None) -> int:
    assert buffer is not None
    return buffer.data_ptr()


@torch.inference_mode()
def test_a_result_goes_where_its_inputs_do_not_lie() -> None:
    with reused_buffers():
        first = free_buffer(torch.zeros(300, 20), 300, 20)
        assert first is not None
        second = free_buffer(first, 300, 20)
        assert second is not None
        assert at(first) != at(second)
        assert [at(free_buffer(second, 300, 20)), at(free_buffer(first, 30, 10, 20))] == [at(first), at(second)]


@torch.inference_mode()
def test_each_type_and_shape_has_its_own() -> None:
    places = set()
    with reused_buffers():
        for like in (torch.zeros(1), torch.zeros(1, dtype=torch.float64)):
            for shape in ((300, 20), (100, 60), (100, 20)):
                buffer = free_buffer(like, *shape)
                assert buffer is not None
                assert (buffer.shape, buffer.dtype) == (shape, like.dtype)
                assert buffer.is_contiguous()
                places.add(at(buffer))
    assert len(places) == 6


@torch.inference_mode()
def test_a_layer_reads_what_the_layer_before_it_gave_and_writes_elsewhere() -> None:
    layers = [Dense(20, 20, ACTIVATIONS["relu"], seeded(number, "test")) for number in range(5)]
    images = torch.rand((40, 20), generator=seeded(0, "images"))
    expected, found = images, images
    for layer in layers:
        expected = layer(expected)
    with reused_buffers():
        for layer in layers:
            found = layer(found)
    assert torch.equal(found, expected)


def test_there_are_none_outside_nor_for_another_thread_nor_where_a_gradient_follows() -> None:
    like = torch.zeros(1)
    found: list[Tensor | None] = []

    def of_another_thread() -> None:
        with torch.no_grad():
            found.append(free_buffer(like, 2))

    with reused_buffers():
        assert free_buffer(like, 2) is None
        another = threading.Thread(target=of_another_thread)
        another.start()
        another.join()
    with torch.no_grad():
        found.append(free_buffer(like, 2))
    assert found == [None, None]


@torch.no_grad()
def test_they_are_gone_after_an_error() -> None:
    with pytest.raises(KeyError), reused_buffers():
        raise KeyError
    assert free_buffer(torch.zeros(1), 2) is None
