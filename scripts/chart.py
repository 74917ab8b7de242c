"""Draws a prediction: the image, and next to it a bar of goodness for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from intff.pictures import to_text

_SHADES = " ░▒▓█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BAR = 24  # characters of the longest bar
_SMALL = 14  # maximum width in pixels of an image that is drawn enlarged and in shades


def draw(image: NDArray[np.uint8], labels: Sequence[str], goodness: Sequence[float], true: str) -> Table:
    """Draw an image and its goodness for each label side by side.

    Args:
        image: [H, W], bytes.
        labels: class names.
        goodness: of each label.
        true: the true label.
    """
    best = labels[int(np.argmax(goodness))]
    chart = Table.grid(padding=(0, 1))
    chart.add_column(justify="right")
    chart.add_column(min_width=_BAR)
    chart.add_column(justify="right")
    chart.add_column()
    for label, value in zip(labels, goodness, strict=True):
        marks = ["predicted"] * (label == best) + ["true"] * (label == true)
        style = ("bold green" if label == true else "bold red") if label == best else "" if label == true else "dim"
        cells = (label, bar(value / max(*goodness, 1e-9)), f"{value:.2f}", ", ".join(marks))
        chart.add_row(*(Text(cell, style=style) for cell in cells))
    beside = Table.grid(padding=(0, 3))
    beside.add_row(Text(_picture(image)), chart)
    return beside


def bar(share: float) -> str:
    """A bar of characters; `share`, 0 to 1, is its length relative to the longest bar."""
    eighths = round(max(0.0, min(share, 1.0)) * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _picture(image: NDArray[np.uint8]) -> str:
    if image.shape[1] > _SMALL:
        return to_text(image / 255)
    shades = np.rint(image / 255 * (len(_SHADES) - 1)).astype(int)
    return "\n".join("".join(2 * _SHADES[shade] for shade in row) for row in shades)
