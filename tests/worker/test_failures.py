from __future__ import annotations

import errno

import pytest
import torch
from safetensors import SafetensorError

from intff.errors import DatasetCorrupt, DatasetUnavailable, Diverged
from worker.failures import describe


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Diverged("the loss became nan"), "diverged"),
        (DatasetCorrupt("a damaged file"), "dataset_corrupt"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (SafetensorError("Error while serializing: No space left on device (os error 28)"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied"), "internal_error"),
        (ZeroDivisionError("division by zero"), "internal_error"),
    ],
)
def test_an_error_has_its_code(error: Exception, code: str) -> None:
    assert describe(error)[0] == code


def test_a_full_disk_is_seen_behind_another_error() -> None:
    error = RuntimeError("writing failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert describe(error)[0] == "disk_full"


def test_an_unexpected_error_is_told_by_its_kind_and_first_line_only() -> None:
    assert describe(ValueError("bad value\nwith details"))[1] == "ValueError: bad value"
    assert describe(ValueError())[1] == "ValueError"
    assert len(describe(ValueError("x" * 2000))[1]) == 500


def test_where_a_data_set_was_looked_for_is_told_to_its_end() -> None:
    lines = "\n".join(["no copy was found", *["looked in a folder with a long name" * 4] * 12, "set INTFF_DATA_DIR"])
    assert describe(DatasetUnavailable(lines)) == ("dataset_unavailable", lines)
