import gzip

import pytest

from intff import idx
from intff.errors import DatasetCorrupt

SHAPE = (2, 2, 3)
WHOLE = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(12)])


def test_values_come_in_the_shape_of_the_header() -> None:
    array = idx.parse(WHOLE, SHAPE)
    assert array.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert array.flags.writeable


def test_gzip_is_seen_by_its_first_bytes() -> None:
    assert idx.contents(gzip.compress(WHOLE), SHAPE) == WHOLE
    assert idx.contents(WHOLE, SHAPE) == WHOLE


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"hello, world", "begins with 00000803, this one with 68656c6c"),
        (WHOLE[:7], "it is truncated: expected 28 bytes, got 7"),
        (WHOLE[:-1], "it is truncated: expected 28 bytes, got 27"),
        (WHOLE + b"x", "it is too long: expected 28 bytes"),
        (bytes([0, 0, 8, 1]) + WHOLE[4:], "begins with 00000803, this one with 00000801"),
        (bytes([0, 0, 13, 3]) + WHOLE[4:], "begins with 00000803, this one with 00000d03"),
        (WHOLE[:7] + b"\x09" + WHOLE[8:], "it holds 9x2x3 values, not 2x2x3"),
    ],
)
def test_anything_else_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(DatasetCorrupt, match=says):
        idx.parse(data, SHAPE)


@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_damaged_gzip_is_refused(cut: int) -> None:
    with pytest.raises(DatasetCorrupt, match="gzip data are damaged or truncated"):
        idx.contents(gzip.compress(WHOLE)[:-cut], SHAPE)


def test_gzip_with_a_flipped_byte_is_refused() -> None:
    damaged = bytearray(gzip.compress(WHOLE))
    damaged[-6] ^= 1  # of the CRC
    with pytest.raises(DatasetCorrupt, match="CRC check failed"):
        idx.contents(bytes(damaged), SHAPE)


def test_a_bomb_is_not_unpacked_beyond_the_expected_size() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(idx.contents(bomb, SHAPE)) == len(WHOLE) + 1
