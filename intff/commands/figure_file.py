"""The type of an option that names a figure file; the extension selects the format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from intff.plots import Image

_IMAGES: dict[str, Image] = {".svg": "svg", ".png": "png"}


class FigureFile(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.5
    """A path that ends in .svg or .png, in an existing folder."""

    name = "FILE.svg|FILE.png"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401 -- click's values
        """Convert the option's value to a path; an invalid one is a usage error."""
        file = Path(value)
        if file.suffix.lower() not in _IMAGES:
            self.fail(f"a figure file must end in .svg or .png, got {str(file)!r}", param, ctx)
        if file.is_dir() or not file.absolute().parent.is_dir():
            self.fail(f"{str(file)!r} is a folder, or its parent folder does not exist", param, ctx)
        return file


def image_of(file: Path) -> Image:
    """The format of a figure file, by its extension."""
    return _IMAGES[file.suffix.lower()]
