"""Every error that this project raises deliberately, in one class hierarchy.

    IntffError
    ├── SpecError            a training spec that cannot be run
    ├── NotationError        an architecture string that cannot be read
    ├── DatasetError
    │   ├── DatasetUnavailable   the files were not found and could not be downloaded
    │   └── DatasetCorrupt       the files were found but their contents are wrong
    ├── ImageError           an image that cannot be decoded or has the wrong shape
    ├── CheckpointError      a checkpoint or model folder that is missing, damaged or incompatible
    ├── DeviceUnavailable    the spec asks for a device that this process does not have
    ├── Diverged             training produced NaN or infinity
    ├── OutOfMemory          training needed more memory than is available
    └── MissingExtra         a feature whose optional packages are not installed

Each class has a stable `code`, used in HTTP problem responses, in a failed job's
`error.code` and in the `error` of a row of `intff reproduce --json`. A message states the
rule, the value received and the remedy.
"""

from __future__ import annotations

from reprlib import Repr
from typing import ClassVar

_LONGEST_SHOWN = 80
_SHORT = Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _LONGEST_SHOWN


class IntffError(Exception):
    """Base class of all errors; never raised itself."""

    code: ClassVar[str] = "internal_error"


class SpecError(IntffError, ValueError):
    """A training spec that cannot be run; `field` is the dotted path of the invalid part."""

    code = "invalid_spec"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotationError(IntffError, ValueError):
    """An architecture string that does not follow the paper's notation."""

    code = "invalid_spec"


class DatasetError(IntffError):
    """Base class of the data set errors."""

    code = "dataset_unavailable"


class DatasetUnavailable(DatasetError):
    """No copy of the data set was found and none could be downloaded."""


class DatasetCorrupt(DatasetError):
    """A data set file was found, but its contents are wrong."""

    code = "dataset_corrupt"


class ImageError(IntffError, ValueError):
    """An image that cannot be decoded or does not have the model's shape."""

    code = "invalid_image"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class CheckpointError(IntffError):
    """A checkpoint or model folder that is missing, damaged or incompatible."""

    code = "checkpoint_corrupt"


class DeviceUnavailable(IntffError):
    """The spec asks for a device that this process does not have."""

    code = "device_unavailable"


class Diverged(IntffError):
    """Training produced NaN or infinity."""

    code = "diverged"


class OutOfMemory(IntffError):
    """Training needed more memory than the device has."""

    code = "out_of_memory"


class MissingExtra(IntffError, ImportError):
    """A feature whose optional packages are not installed."""

    code = "missing_extra"


def shown(value: object) -> str:
    """The representation of a received value for an error message, truncated if it is long."""
    try:
        text = _SHORT.repr(value)  # shortens while it formats, so a list of a million numbers costs little
    except ValueError:  # Python refuses to format an integer with thousands of digits
        return "an enormous integer"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
