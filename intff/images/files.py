"""Converts image files, such as drawings and photographs, to the form of the training images."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from intff.errors import ImageError

Floats = NDArray[np.float32]
_Taken = TypeVar("_Taken")

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")  # what drawing programs and browsers produce; none can contain code
_MIDDLE_GREY = 127.5
_PNG = b"\x89PNG\r\n\x1a\n"
_PACKED_TEXT = frozenset({b"zTXt", b"iTXt", b"iCCP"})


def from_file(
    data: bytes,
    shape: tuple[int, int, int] = (1, 28, 28),
    invert: Literal["auto"] | bool = "auto",
    *,
    max_pixels: int = 16_000_000,
    field: str = "image",
) -> Floats:
    """Read an image file as a model's input: greyscale, of the model's size, light on dark.

    Only the first frame is used. The EXIF orientation is applied. Transparency becomes white, or
    black around a light drawing. An image of another size is resized, and padded to the model's
    aspect ratio with the background, which is the median of the image's border.

    Args:
        data: the file, in one of `FORMATS`.
        shape: the model's channels, height and width; every channel gets the same grey values.
        invert: invert the grey values; `auto` does so if the background is light.
        max_pixels: an image with more is rejected before it is decoded.
        field: the name of the file in an error.

    Returns:
        Floats from 0 to 1, [C, H, W].

    Raises:
        ImageError: the file cannot be read or the image is too large.
    """
    picture = _open(data, max_pixels, field, _as_grey)  # [h, w], 0..255
    background = _median(_border(picture))
    channels, height, width = shape
    if picture.shape != (height, width):
        picture = _fit(picture, background, height, width)
    if invert is True or (invert == "auto" and background > _MIDDLE_GREY):
        picture = 255 - picture
    grey = np.clip(picture / np.float32(255), 0, 1, dtype=np.float32)
    return np.repeat(grey[np.newaxis], channels, axis=0)


def count_pixels(data: bytes, *, max_pixels: int = 16_000_000, field: str = "image") -> int:
    """Width times height of an image file according to its header; nothing is decoded.

    Args:
        data: the file, in one of `FORMATS`.
        max_pixels: an image with more is rejected.
        field: the name of the file in an error.

    Returns:
        The number of pixels.

    Raises:
        ImageError: the header cannot be read, or the image is too large.
    """
    return _open(data, max_pixels, field, lambda image: image.width * image.height)


def _open(data: bytes, max_pixels: int, field: str, take: Callable[[Image.Image], _Taken]) -> _Taken:
    """Open an image, of which only the header is read yet, and apply `take`; any failure becomes an ImageError."""
    try:
        with Image.open(io.BytesIO(_without_packed_text(data)), formats=FORMATS) as image:
            _require_size(image.width * image.height, max_pixels, field)
            return take(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"an image may have at most {max_pixels:,} pixels, this one has far more; send a smaller one"
        raise ImageError(msg, field=field) from error
    except Exception as error:  # a damaged file can make a decoder raise almost any exception
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        msg = f"expected an image file in {formats} format, got {_kind(data)}"
        raise ImageError(msg, field=field) from error


def _without_packed_text(data: bytes) -> bytes:
    """A PNG without its compressed text chunks.

    They are not needed here, and Pillow would decompress them, to thousands of times the size of the file.
    """
    if data[:8] != _PNG or not any(kind in data for kind in _PACKED_TEXT):
        return data
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])  # a chunk is its length, its type, its data and a checksum
        if data[at + 4 : at + 8] not in _PACKED_TEXT:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _require_size(pixels: int, max_pixels: int, field: str) -> None:
    if pixels > max_pixels:
        msg = f"an image may have at most {max_pixels:,} pixels, this one has {pixels:,}; send a smaller one"
        raise ImageError(msg, field=field)


def _as_grey(image: Image.Image) -> Floats:
    """The first frame, upright and in greyscale, [h, w], 0..255."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would clip at 255
        return np.asarray(image, np.float32) * np.float32(255 / 65535)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"), np.float32)
    rgba = image.convert("RGBA")
    grey = np.asarray(rgba.convert("L"), np.float32)
    alpha = np.asarray(rgba.getchannel("A"), np.float32) / np.float32(255)  # [h, w]
    is_light_drawing = _median(_border(alpha)) == 0 and np.average(grey, weights=alpha + 1e-6) > _MIDDLE_GREY
    behind = np.float32(0 if is_light_drawing else 255)
    composed: Floats = grey * alpha + behind * (1 - alpha)
    return composed


def _border(picture: Floats) -> Floats:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _median(values: Floats) -> float:
    """The median of an even number of values; NumPy's takes ten times as long for so few."""
    ordered = np.sort(values)
    return float(ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2


def _fit(picture: Floats, background: float, height: int, width: int) -> Floats:
    """Resize a picture to fit both sides, keeping its aspect ratio, and centre it on the background."""
    tall, wide = picture.shape
    ratio = max(tall / height, wide / width)
    new_tall, new_wide = max(1, round(tall / ratio)), max(1, round(wide / ratio))
    # The box filter averages the pixels that become one; enlarging needs interpolation.
    method = Image.Resampling.BOX if ratio >= 1 else Image.Resampling.BILINEAR
    resized = Image.fromarray(picture).resize((new_wide, new_tall), method)
    fitted = np.full((height, width), background, np.float32)
    above, left = (height - new_tall) // 2, (width - new_wide) // 2
    fitted[above : above + new_tall, left : left + new_wide] = np.asarray(resized)
    return fitted


def _kind(data: bytes) -> str:
    """A guess at what was sent instead of an image."""
    start = data[:512].lower()
    if not data:
        return "an empty file"
    if any(data.startswith(sign) for sign in (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")):
        return "a damaged or truncated one"
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith((b"%!ps", b"%pdf", b"\xc5\xd0\xd3\xc6")):
        return "a PostScript or PDF document"
    whole_characters = start.decode("utf-8", "ignore").encode()
    if b"\0" not in start and len(whole_characters) > len(start) - 4:  # the last one may be cut
        return "text"
    return f"a file that begins with {data[:4].hex(' ')}"
