"""What an error that ended an attempt is called in the job's `error`: a stable code and one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from intff.errors import IntffError, OutOfMemory
from intff.memory import is_out_of_memory

DISK_FULL = "disk_full"
_LONGEST_MESSAGE = 500
_LONGEST_OWN_MESSAGE = 4000
"""Of an error that this project words: a data set's says where it was looked for, and at its end what to do."""


def describe(error: BaseException) -> tuple[str, str]:
    """The code and the message of an error, for somebody who does not see the worker's log."""
    if is_disk_full(error):
        return DISK_FULL, "the worker ran out of disk space; free some, and submit the job again"
    if isinstance(error, IntffError):
        return error.code, str(error)[:_LONGEST_OWN_MESSAGE]
    if is_out_of_memory(error):
        return OutOfMemory.code, "training needed more memory than there is; make the batch or the network smaller"
    first_line = next(iter(str(error).splitlines()), "")
    message = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return IntffError.code, message[:_LONGEST_MESSAGE]


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error."""
    return any(_is_disk_full(cause) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left on device" in str(error)  # safetensors has only the text
