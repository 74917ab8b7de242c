"""Memory that runs out, by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from intff.errors import OutOfMemory

# Of torch's allocator on a CPU; of CUDA itself, before and beside torch's allocator there; and of its matrix products.
_WORDS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def named_memory_errors() -> Iterator[None]:
    """Turn what torch raises when the memory is used up into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        first_line = str(error).partition("\n")[0]
        msg = f"training needed more memory than there is; make the batch or the network smaller ({first_line})"
        raise OutOfMemory(msg) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is one by which torch or Python says that the memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
