"""Recognises errors that mean a lack of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from intff.errors import OutOfMemory

# Messages of torch's CPU allocator, of CUDA outside torch's allocator, and of cuBLAS.
_WORDS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def named_memory_errors() -> Iterator[None]:
    """Convert the errors that torch raises for lack of memory to `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0]
        msg = f"training ran out of memory; make the batch or the network smaller ({first_line})"
        raise OutOfMemory(msg) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python raised the error for lack of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
