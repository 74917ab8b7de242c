"""Strict reading of IDX files, the format of MNIST and similar data sets."""

from __future__ import annotations

import gzip
import io
import zlib
from math import prod

import numpy as np
from numpy.typing import NDArray

from intff.errors import DatasetCorrupt

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def contents(raw: bytes, shape: tuple[int, ...]) -> bytes:
    """A file's contents, decompressed if it is gzipped.

    Args:
        raw: the file's bytes.
        shape: the expected shape of the array; decompression stops one byte beyond its size.

    Raises:
        DatasetCorrupt: the compressed data are damaged or truncated; the message does not name the file.
    """
    if not raw.startswith(_GZIP):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            return stream.read(_size(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"its gzip data are damaged or truncated ({error})"
        raise DatasetCorrupt(msg) from error


def parse(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Parse the contents of an uncompressed IDX file of unsigned bytes.

    The layout is two zero bytes, the type (8, unsigned byte), the number of dimensions, each
    dimension as a four-byte big-endian integer, then the values and nothing after them.

    Args:
        data: the file's contents.
        shape: the expected shape of the array.

    Returns:
        An array of this shape.

    Raises:
        DatasetCorrupt: the data do not have this layout or shape; the message does not name the file.
    """
    header = _header(shape)
    if not data:
        msg = "it is empty"
        raise DatasetCorrupt(msg)
    if not data.startswith(header[:4]):
        msg = f"an IDX file with {len(shape)} dimensions begins with {header[:4].hex()}, this one with {data[:4].hex()}"
        raise DatasetCorrupt(msg)
    if len(data) >= len(header) and not data.startswith(header):
        found = [int.from_bytes(data[at : at + 4], "big") for at in range(4, len(header), 4)]
        msg = f"it holds {_shown(found)} values, not {_shown(shape)}"
        raise DatasetCorrupt(msg)
    if len(data) < _size(shape):
        msg = f"it is truncated: expected {_size(shape):,} bytes, got {len(data):,}"
        raise DatasetCorrupt(msg)
    if len(data) > _size(shape):
        msg = f"it is too long: expected {_size(shape):,} bytes"
        raise DatasetCorrupt(msg)
    # A copy, so that the array is writable and the file's bytes can be freed.
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape).copy()


def _header(shape: tuple[int, ...]) -> bytes:
    dimensions = b"".join(length.to_bytes(4, "big") for length in shape)
    return bytes([0, 0, _UNSIGNED_BYTE, len(shape)]) + dimensions


def _size(shape: tuple[int, ...]) -> int:
    return len(_header(shape)) + prod(shape)


def _shown(shape: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, shape))
