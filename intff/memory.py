"""Memory that runs out, by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from intff.errors import OutOfMemory


@contextmanager
def named_memory_errors() -> Iterator[None]:
    """Turn what torch raises when the memory is used up into `OutOfMemory`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        msg = f"training needed more memory than the device has; make the batch or the network smaller ({error})"
        raise OutOfMemory(msg) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        msg = "training needed more memory than this machine has; make the batch or the network smaller"
        raise OutOfMemory(msg) from error
