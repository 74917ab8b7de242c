"""Two buffers that the layers of a pass fill in turn, where they would each take new memory.

On a CPU, new memory is seldom the memory that was just freed: torch asks for aligned blocks, and glibc's
`posix_memalign` looks for one that is larger by the alignment than the block of the same size that waits there. So a
pass walks through many times the memory that it needs at once, and finds little of it in the processor's caches.
Measured in docs/performance.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor


class _OfThread(threading.local):
    pair: list[Tensor] | None = None


_buffers = _OfThread()


@contextmanager
def alternating_buffers() -> Iterator[None]:
    """Within it, on a CPU and without gradients, what a dense layer gives lasts until the layer after the next one."""
    _buffers.pair = [torch.empty(0), torch.empty(0)]
    try:
        yield
    finally:
        _buffers.pair = None


def next_buffer(like: Tensor, *shape: int) -> Tensor | None:
    """Where a result may be written; None, which torch takes for new memory, outside of `alternating_buffers`.

    Args:
        like: has the result's type.
        shape: the result's.
    """
    pair = _buffers.pair
    if pair is None or like.is_cuda or torch.is_grad_enabled():
        return None
    pair.reverse()
    size = prod(shape)
    if pair[0].shape[0] < size or pair[0].dtype != like.dtype:
        pair[0] = like.new_empty(size)
    return pair[0][:size].view(shape)
