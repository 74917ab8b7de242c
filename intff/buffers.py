"""Memory that the layers of a pass write to again and again, where each would take new memory for what it gives.

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

Key = tuple[torch.dtype, int, int]


class _OfThread(threading.local):
    pairs: dict[Key, tuple[Tensor, Tensor]] | None = None


_buffers = _OfThread()


@contextmanager
def reused_buffers() -> Iterator[None]:
    """Within it, on a CPU and without gradients, what a dense layer gives lasts until another is given something else.

    There are two buffers for each shape of result, one to read from and one to write to. They are not shared by
    shapes, for then one core would write where another one's cache holds what it has written before.
    """
    _buffers.pairs = {}
    try:
        yield
    finally:
        _buffers.pairs = None


def free_buffer(inputs: Tensor, *shape: int) -> Tensor | None:
    """Where a result may be written; None, which torch takes for new memory, outside of `reused_buffers`.

    Args:
        inputs: what it is computed from; it goes into the buffer that they do not lie in.
        shape: the result's; its type is that of the inputs.
    """
    pairs = _buffers.pairs
    if pairs is None or inputs.is_cuda or torch.is_grad_enabled():
        return None
    size = prod(shape)
    key = (inputs.dtype, size, shape[-1])
    if key not in pairs:
        pairs[key] = inputs.new_empty(size), inputs.new_empty(size)
    first, second = pairs[key]
    return (second if inputs.data_ptr() == first.data_ptr() else first).view(shape)
