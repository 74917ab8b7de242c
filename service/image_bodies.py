"""Reads the images of a prediction request from each supported kind of body."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic_core import from_json as parse_json
from starlette.datastructures import UploadFile
from starlette.requests import Request

from intff.errors import ImageError, IntffError
from intff.images import count_pixels, from_file, from_json
from service.errors import InvalidRequest, UnsupportedMediaType
from service.json_bodies import require_single_keys

Floats = NDArray[np.float32]
Invert = Literal["auto", "true", "false"]
Shape = tuple[int, int, int]
Kind = Literal["json", "files", "raw"]

ACCEPTED = "application/json, image/*, multipart/form-data or application/octet-stream"

_UNSAID = {"", "application/x-www-form-urlencoded"}  # the second is what curl says of any --data
_IMAGE_FILES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
_INVERT: dict[Invert, bool | Literal["auto"]] = {"auto": "auto", "true": True, "false": False}
_SCALES = ("bytes", "unit")
_MARKS_OF_ONE_KEY = 2
_MARKS_WITH_SCALE = 6  # the quotation marks of two keys and of the scale's value
SMALL_BYTES = 32 * 1024
_SMALL_PIXELS = 64 * 64
_LARGEST_IMAGES = 4  # of the largest size per request; at the default limit, each takes a third of a second in a thread


@dataclass(frozen=True)
class ImageLimits:
    """What one prediction request may contain."""

    images: int
    pixels: int
    """Per file."""

    @property
    def pixels_together(self) -> int:
        """In all files of a request together: a few of the largest, or many small ones."""
        return _LARGEST_IMAGES * self.pixels


@dataclass(frozen=True)
class ImageBody:
    """A body that has been received but not decoded; decoding is pure computation and may run in a thread."""

    kind: Kind
    data: list[bytes]
    names: list[str]

    @property
    def is_small(self) -> bool:
        """Whether decoding is faster than starting a thread: a few images as numbers, or a small PNG."""
        is_short = len(self.data) == 1 and len(self.data[0]) <= SMALL_BYTES
        return is_short and (self.kind != "files" or _png_pixels(self.data[0]) <= _SMALL_PIXELS)

    def most_images(self, shape: Shape) -> int:
        """An upper bound on the number of images: in JSON a pixel takes at least two characters."""
        return len(self.data) if self.kind != "json" else 1 + len(self.data[0]) // (2 * prod(shape))

    def decode(self, shape: Shape, invert: Invert, limits: ImageLimits) -> Floats:
        """The images, [N, C, H, W], from 0 to 1.

        Raises:
            ImageError: one of them cannot be read.
            InvalidRequest: the JSON around them is invalid, or there are too many images or too many pixels in total.
        """
        if self.kind == "json":
            return _from_json_body(self.data[0], shape, limits)
        if self.kind == "raw":
            return _from_pixels(self.data[0], shape)
        _require_few(len(self.data), limits)
        self._require_few_pixels(limits)
        mode = _INVERT[invert]
        read = [
            from_file(data, shape, mode, max_pixels=limits.pixels, field=name)
            for data, name in zip(self.data, self.names, strict=True)
        ]
        return np.stack(read)

    def _require_few_pixels(self, limits: ImageLimits) -> None:
        """Refuse files with too many pixels in total, before the first one is decoded."""
        if len(self.data) <= _LARGEST_IMAGES:
            return  # each file has its own limit, so this few cannot exceed the total
        pixels = sum(
            count_pixels(data, max_pixels=limits.pixels, field=name)
            for data, name in zip(self.data, self.names, strict=True)
        )
        if pixels > limits.pixels_together:
            msg = (
                f"the files of a request may have {limits.pixels_together:,} pixels in total, "
                f"these have {pixels:,}; shrink them, or split them over several requests"
            )
            raise InvalidRequest(msg, field="images")


async def read_body(request: Request, limits: ImageLimits) -> ImageBody:
    """Receive a request's body; without a telling Content-Type, an image file is recognised by its signature.

    Raises:
        UnsupportedMediaType: its Content-Type is not supported.
        InvalidRequest: a multipart body holds something other than files.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return ImageBody("json", [await request.body()], ["body"])
    if media_type == "application/octet-stream":
        return ImageBody("raw", [await request.body()], ["body"])
    if media_type.startswith("image/"):
        return ImageBody("files", [await request.body()], ["body"])
    if media_type == "multipart/form-data":
        return await _read_form(request, limits)
    if media_type in _UNSAID:
        body = await request.body()
        if body.startswith(_IMAGE_FILES):
            return ImageBody("files", [body], ["body"])
    arrived = repr(media_type) if media_type else "no Content-Type"
    msg = f"images must be sent as {ACCEPTED}, got {arrived}; curl needs -H 'Content-Type: application/json' for JSON"
    raise UnsupportedMediaType(msg)


async def _read_form(request: Request, limits: ImageLimits) -> ImageBody:
    # Let one more than allowed through, so that the refusal carries this project's own message.
    async with request.form(max_files=limits.images + 1, max_fields=16) as form:
        parts = form.multi_items()
        for name, part in parts:
            if not isinstance(part, UploadFile):
                msg = "every part of this form must be an image file, got text; with curl, use -F 'image=@digit.png'"
                raise InvalidRequest(msg, field=name)
        if not parts:
            msg = "at least one image file is needed, got an empty form"
            raise ImageError(msg, field="images")
        files = [part for _, part in parts if isinstance(part, UploadFile)]
        names = [f"images.{position}" for position in range(len(files))]
        return ImageBody("files", [await file.read() for file in files], names)


def _from_json_body(data: bytes, shape: Shape, limits: ImageLimits) -> Floats:
    if not _has_single_keys(data):
        require_single_keys(data)
    try:
        no_booleans = b"r" not in data and b"f" not in data  # a valid body has an r or an f only in true and false
        return _from_parsed(orjson.loads(data), shape, limits, no_booleans=no_booleans)
    except (IntffError, ValueError):
        # Fall back to the other parser, which takes three times as long: it reads NaN and numbers of
        # any length, and gives better messages for invalid JSON.
        return _from_parsed(_parsed(data), shape, limits)


def _has_single_keys(data: bytes) -> bool:
    """Whether the quotation marks alone rule out a duplicate key, of which the parsers would keep the last."""
    marks = data.count(b'"')
    if marks == _MARKS_OF_ONE_KEY:
        return True
    is_scaled = data.count(b'"images"') == data.count(b'"scale"') == 1 and b"\\" not in data
    return is_scaled and marks == _MARKS_WITH_SCALE


def _parsed(data: bytes) -> Any:  # noqa: ANN401 -- whatever was sent
    try:
        return parse_json(data, allow_inf_nan=True, cache_strings=False)
    except ValueError as error:
        msg = f"the body is not JSON: {error}"
        raise InvalidRequest(msg, field="body") from error


def _from_parsed(
    body: object,
    shape: Shape,
    limits: ImageLimits,
    *,
    no_booleans: bool = False,
) -> Floats:
    if not isinstance(body, dict):
        msg = f'the body must be an object, {{"images": [...]}}, got {type(body).__name__}'
        raise InvalidRequest(msg, field="body")
    if "images" not in body:
        msg = 'the images are missing; send {"images": [...]}'
        raise InvalidRequest(msg, field="images")
    unknown = sorted(body.keys() - {"images", "scale"})
    if unknown:
        msg = f"unknown field; only images and scale are allowed, got {unknown[0]!r}"
        raise InvalidRequest(msg, field=unknown[0])
    scale = body.get("scale")
    if scale is not None and scale not in _SCALES:
        msg = f"it must be 'bytes' (0 to 255) or 'unit' (0 to 1), got {str(scale)[:80]!r}"
        raise InvalidRequest(msg, field="scale")
    images = body["images"]
    if isinstance(images, list):
        _require_few(len(images), limits)
    return from_json(images, shape, scale, no_booleans=no_booleans)


def _png_pixels(data: bytes) -> float:
    """The number of pixels that a PNG declares in its first chunk; infinity for any other file."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return inf
    return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24])


def _from_pixels(data: bytes, shape: Shape) -> Floats:
    size = prod(shape)
    if len(data) != size:
        msg = f"an image for this model has {size} bytes, one per pixel, got {len(data)}"
        raise ImageError(msg, field="body")
    pixels = np.frombuffer(data, np.uint8).astype(np.float32) / np.float32(255)
    read: Floats = pixels.reshape(1, *shape)
    return read


def _require_few(images: int, limits: ImageLimits) -> None:
    if images > limits.images:
        msg = f"a request may have at most {limits.images:,} images, got {images:,}; split them over several requests"
        raise InvalidRequest(msg, field="images")
