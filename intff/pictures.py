"""Images drawn with characters, for terminals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BRIGHT = 0.3  # strokes have soft edges: a threshold below one half keeps thin ones unbroken
_BLOCKS = " ▀▄█"


def to_text(image: NDArray[np.floating]) -> str:
    """Draw a light-on-dark image with block characters, two rows of pixels per line.

    Args:
        image: [H, W], from 0 to 1.

    Returns:
        H / 2 lines of W characters each, the last without a newline.
    """
    bright = np.asarray(image) >= _BRIGHT
    even = np.pad(bright, ((0, len(bright) % 2), (0, 0)))
    blocks = even[::2] + 2 * even[1::2]  # [H / 2, W], places in _BLOCKS
    return "\n".join("".join(_BLOCKS[block] for block in row) for row in blocks)
