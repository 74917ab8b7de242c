"""How an error that ended an attempt appears in the job's `error`: a stable code and one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from intff.errors import IntffError, OutOfMemory
from intff.memory import is_out_of_memory

DISK_FULL = "disk_full"
_LONGEST_MESSAGE = 500
_LONGEST_OWN_MESSAGE = 4000
"""For this project's own messages: a data set's lists where it was searched for, and only then what to do."""


def describe(error: BaseException) -> tuple[str, str]:
    """The code and the message of an error, for a reader who cannot see the worker's log."""
    if is_disk_full(error):
        return DISK_FULL, "the worker ran out of disk space; free some, and submit the job again"
    if isinstance(error, IntffError):
        return error.code, str(error)[:_LONGEST_OWN_MESSAGE]
    if is_out_of_memory(error):
        return OutOfMemory.code, "training ran out of memory; make the batch or the network smaller"
    first_line = next(iter(str(error).splitlines()), "")
    message = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return IntffError.code, message[:_LONGEST_MESSAGE]


def is_disk_full(error: BaseException) -> bool:
    """Whether an error was caused by a full disk."""
    return any(_is_disk_full(cause) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)  # safetensors has only the text
