"""Images given as nested lists of numbers, as in JSON."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intff.errors import ImageError

Floats = NDArray[np.float32]
Shape = tuple[int, int, int]

_DEEPEST = 3  # levels of lists in an image: channels, rows, pixels
_LONGEST_SHOWN = 40
_BRIGHTEST = 255
_LISTS = {list, tuple}


def from_json(
    images: object,
    shape: Shape = (1, 28, 28),
    scale: Literal["bytes", "unit"] | None = None,
    *,
    field: str = "images",
    no_booleans: bool = False,
) -> Floats:
    """Read images given as nested lists of numbers: C x H x W, H x W if there is one channel, or flat.

    Args:
        images: a list of images.
        shape: the model's channels, height and width.
        scale: whether black to white is 0..255 (`bytes`) or 0..1 (`unit`). None means `bytes`
            if all numbers are integers, and `unit` if any of them is a float.
        field: the name of the list in an error.
        no_booleans: the caller guarantees that no number is True or False. Checking for them
            takes a third of the time.

    Returns:
        Floats from 0 to 1, [N, C, H, W].

    Raises:
        ImageError: the images are invalid; `field` is the path of the first invalid item, as in `images.3.27.5`.
    """
    if not isinstance(images, list | tuple):
        msg = f"images must be a list of images, got {_shown(images)}"
        raise ImageError(msg, field=field)
    if not images:
        msg = "at least one image is needed, got an empty list"
        raise ImageError(msg, field=field)
    if isinstance(images[0], int | float):
        msg = "images must be a list of images, got a list of numbers; put a single image inside a list"
        raise ImageError(msg, field=field)
    quickly = _read_quickly(images, shape, scale, no_booleans=no_booleans)
    return _read_slowly(images, shape, scale, field) if quickly is None else quickly


def _read_quickly(images: Sequence[Any], shape: Shape, scale: str | None, *, no_booleans: bool) -> Floats | None:
    """All images at once, if all have the same accepted form and contain only numbers in range; None otherwise."""
    rows = _rows(images, shape)
    if rows is None:
        return None
    if not no_booleans and not set(map(type, chain.from_iterable(rows))) <= {int, float}:
        return None
    if scale != "unit":
        with suppress(TypeError, ValueError):  # a float among them, or out of range
            pixels = np.frombuffer(b"".join(map(bytes, rows)), np.uint8)
            return _floats(pixels.astype(np.float32), _BRIGHTEST, shape)
    pack = struct.Struct(f"{len(rows[0])}f").pack  # several times as fast as NumPy's conversion of lists
    try:
        numbers = np.frombuffer(b"".join([pack(*row) for row in rows]), np.float32)
    except (struct.error, OverflowError):  # not a number, or one far out of range
        return None
    # Integers that do not fit in a byte reach this point too; they are also out of range with a top of 1.
    top = _BRIGHTEST if scale == "bytes" else 1
    in_range = numbers.min() >= 0 and numbers.max() <= top  # NaN fails both
    return _floats(numbers, top, shape) if in_range else None


def _rows(images: Sequence[Any], shape: Shape) -> Sequence[Any] | None:
    """The innermost lists, if all images are nested like the first one and its form is accepted; None otherwise."""
    form = _form(images[0])
    if form not in _accepted(shape):
        return None
    lists = images
    for depth, length in enumerate(form):
        if depth > 0:
            lists = list(chain.from_iterable(lists))
        if not set(map(type, lists)) <= _LISTS or set(map(len, lists)) != {length}:
            return None
    return lists


def _floats(numbers: Floats, top: int, shape: Shape) -> Floats:
    read: Floats = numbers.reshape(-1, *shape) / np.float32(top)
    return read


def _array(image: Sequence[Any], shape: Shape) -> Floats | None:
    """One image whose form has been checked, [1, C, H, W]; None if a number is too large for a float."""
    try:
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which is out of range
            read: Floats = np.array(image, np.float32).reshape(1, *shape)
    except OverflowError:
        return None
    return read


@lru_cache
def _accepted(shape: Shape) -> tuple[tuple[int, ...], ...]:
    nested = (shape, shape[1:]) if shape[0] == 1 else (shape,)
    return (*nested, (prod(shape),))


def _read_slowly(images: Sequence[Any], shape: Shape, scale: str | None, field: str) -> Floats:
    """Read image by image, to allow different forms and to locate errors."""
    paths = [f"{field}.{position}" for position in range(len(images))]
    arrays: list[Floats | None] = []
    has_float = False
    for image, path in zip(images, paths, strict=True):
        numbers = [number for _, number in _walk(image, _accepted_form(image, shape, path), path)]
        has_float = has_float or float in set(map(type, numbers))
        arrays.append(_array(image, shape))
    top = _BRIGHTEST if scale == "bytes" or (scale is None and not has_float) else 1
    for image, path, read in zip(images, paths, arrays, strict=True):
        # NaN fails both comparisons; `read` is None only if a number is far too large.
        if read is None or not (read.min() >= 0 and read.max() <= top):
            walk = _walk(image, _form(image), path)
            at, number = next((at, number) for at, number in walk if not 0 <= number <= top)
            raise ImageError(_out_of_range(number, top, scale), field=at)
    together = np.concatenate([read for read in arrays if read is not None])
    together /= np.float32(top)
    return together


def _accepted_form(image: object, shape: Shape, path: str) -> tuple[int, ...]:
    found = _form(image)
    forms = _accepted(shape)
    form = next((form for form in forms if len(form) == len(found) and form[0] == found[0]), None)
    if form is None:
        *nested, flat = (" x ".join(map(str, form)) for form in forms)
        got = " x ".join(map(str, found)) if found else _shown(image)
        msg = f"an image must be {' or '.join(nested)} numbers in nested lists, or {flat} in one list; got {got}"
        raise ImageError(msg, field=path)
    return form


def _form(image: object) -> tuple[int, ...]:
    """The shape of a nested list, judged by the first item at each level."""
    form: list[int] = []
    while isinstance(image, list | tuple) and len(form) <= _DEEPEST:
        form.append(len(image))
        image = image[0] if image else None
    return tuple(form)


def _walk(
    value: Any,  # noqa: ANN401 -- whatever was sent
    form: tuple[int, ...],
    path: str,
) -> Iterator[tuple[str, int | float]]:
    """Yield every number with its path.

    Raises:
        ImageError: a list is missing or has the wrong length, or a value is not a number.
    """
    if not form:
        if type(value) not in {int, float}:  # which leaves out bool
            msg = f"a pixel must be a number, got {_shown(value)}"
            raise ImageError(msg, field=path)
        yield path, value
        return
    if not isinstance(value, list | tuple) or len(value) != form[0]:
        got = f"a list of {len(value)}" if isinstance(value, list | tuple) else _shown(value)
        msg = f"expected a list of {form[0]}, got {got}"
        raise ImageError(msg, field=path)
    for position, part in enumerate(value):
        yield from _walk(part, form[1:], f"{path}.{position}")


def _out_of_range(number: float, top: int, scale: str | None) -> str:
    given = f"from 0 to {top}, got {_shown(number)}"
    if scale:
        return f'with "scale": "{scale}", pixels must be {given}'
    if top == 1:
        advice = '; for values from 0 to 255, set "scale" to "bytes"' if 1 < number <= _BRIGHTEST else ""
        return f"if any pixel is a float, all must be {given}{advice}"
    return f"if all pixels are integers, they must be {given}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to format an integer with thousands of digits
        return "an enormous integer"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
