import io
import os
import sys
import time
import timeit
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from intff import datasets
from intff.errors import ImageError
from intff.images import count_pixels, from_file, from_json
from intff.spec import Mnist

FLAT = [0, 255] * 392
NESTED = [FLAT[row * 28 : row * 28 + 28] for row in range(28)]


def file_of(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    return saved(Image.fromarray(array), kind, **options)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def drawing() -> np.ndarray:
    """A light stroke with soft edges on black, 28x28."""
    image = np.zeros((28, 28), np.uint8)
    image[5:23, 12] = 90
    image[5:23, 13:15] = 255
    image[5:23, 15] = 140
    return image


# From JSON


@pytest.mark.parametrize("image", [FLAT, NESTED, [NESTED]], ids=["flat", "nested", "with channel"])
def test_the_three_forms_are_the_same_image(image: list[Any]) -> None:
    read = from_json([image, image])
    assert read.shape == (2, 1, 28, 28)
    assert read.dtype == np.float32
    assert read[1].ravel()[:3].tolist() == [0.0, 1.0, 0.0]


def test_forms_may_differ_within_a_request() -> None:
    assert (from_json([NESTED, FLAT, [NESTED]]) == from_json([FLAT] * 3)).all()


def test_all_integers_are_bytes_even_when_small() -> None:
    assert from_json([[1] * 784])[0, 0, 0, 0] == np.float32(1 / 255)


def test_one_float_makes_a_request_unit() -> None:
    read = from_json([[1] * 784, [0.5] * 784])
    assert read[0].max() == 1.0
    assert read[1].max() == 0.5


def test_scale_says_otherwise() -> None:
    assert from_json([[1] * 784], scale="unit").max() == 1.0
    assert from_json([[127.5] * 784], scale="bytes").max() == 0.5


def test_other_shapes_follow_the_model() -> None:
    assert from_json([[0] * 64], (1, 8, 8)).shape == (1, 1, 8, 8)
    assert from_json([[[[0] * 2] * 2] * 3], (3, 2, 2)).shape == (1, 3, 2, 2)


def with_pixel(value: Any, row: int = 27, column: int = 5) -> list[Any]:
    image: list[Any] = [list(line) for line in NESTED]
    image[row][column] = value
    return image


@pytest.mark.parametrize(
    ("images", "field", "says"),
    [
        ([], "images", "at least one image is needed, got an empty list"),
        (None, "images", "must be a list of images, got None"),
        ("abc", "images", "must be a list of images, got 'abc'"),
        ({"a": 1}, "images", "must be a list of images, got {'a': 1}"),
        (FLAT, "images", "put a single image inside a list"),
        ([FLAT, 5], "images.1", "or 784 in one list; got 5"),
        ([[]], "images.0", "got 0"),
        ([FLAT, [[]]], "images.1", "got 1 x 0"),
        (["abc"], "images.0", "got 'abc'"),
        ([None], "images.0", "got None"),
        (
            [FLAT[:-1]],
            "images.0",
            "an image must be 1 x 28 x 28 or 28 x 28 numbers in nested lists, or 784 in one list; got 783",
        ),
        ([NESTED, NESTED[:-1]], "images.1", "got 27 x 28"),
        ([[[NESTED]]], "images.0", "got 1 x 1 x 28 x 28"),
        ([NESTED, [*NESTED[:27], NESTED[27][:27]]], "images.1.27", "expected a list of 28, got a list of 27"),
        ([[*NESTED[:27], 3]], "images.0.27", "expected a list of 28, got 3"),
        ([NESTED] * 3 + [with_pixel("7")], "images.3.27.5", "a pixel must be a number, got '7'"),
        ([with_pixel(None)], "images.0.27.5", "a pixel must be a number, got None"),
        ([with_pixel(True)], "images.0.27.5", "a pixel must be a number, got True"),
        ([with_pixel([1])], "images.0.27.5", r"a pixel must be a number, got \[1\]"),
        ([with_pixel(256)], "images.0.27.5", "they must be from 0 to 255, got 256"),
        ([with_pixel(-1)], "images.0.27.5", "from 0 to 255, got -1"),
        ([with_pixel(10**400)], "images.0.27.5", "from 0 to 255, got 1000"),
        ([with_pixel(10**5000)], "images.0.27.5", "from 0 to 255, got an enormous integer"),
        (
            [[*[0.5] * 783, 1.5]],
            "images.0.783",
            'all must be from 0 to 1, got 1.5; for values from 0 to 255, set "scale" to "bytes"',
        ),
        ([[*[0.5] * 783, float("nan")]], "images.0.783", "from 0 to 1, got nan"),
        ([[*[0.5] * 783, float("inf")]], "images.0.783", "from 0 to 1, got inf"),
        ([[*[0.5] * 783, 1e300]], "images.0.783", r"from 0 to 1, got 1e\+300"),
        ([[NESTED], [*FLAT[:-1], 300]], "images.1.783", "got 300"),
    ],
)
def test_what_is_wrong_is_named(images: Any, field: str, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        from_json(images)
    assert caught.value.field == field


@pytest.mark.parametrize(("value", "is_advised"), [(255.0, True), (float("nan"), False), (-0.5, False), (1e9, False)])
def test_another_scale_is_advised_where_it_would_do(value: float, *, is_advised: bool) -> None:
    with pytest.raises(ImageError) as caught:
        from_json([[*[0.5] * 783, value]])
    assert ('set "scale" to "bytes"' in str(caught.value)) == is_advised


def test_a_range_error_names_the_scale_that_was_asked_for() -> None:
    with pytest.raises(ImageError, match='with "scale": "unit", pixels must be from 0 to 1, got 255'):
        from_json([FLAT], scale="unit")


def test_one_image_is_read_in_microseconds() -> None:
    """Far from the measured 45 us, so that a busy machine does not fail it; a Python loop over pixels would."""
    seconds = min(timeit.repeat(lambda: from_json([NESTED]), number=50, repeat=5)) / 50
    assert seconds < 300e-6


# From files


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_an_image_of_the_right_size_is_taken_as_it_is(kind: str) -> None:
    read = from_file(file_of(drawing(), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert read.dtype == np.float32
    assert read.shape == (1, 28, 28)
    assert (np.rint(read[0] * 255) == drawing()).all()


def test_jpeg_is_nearly_the_same() -> None:
    read = from_file(file_of(drawing(), "JPEG", quality=95))
    assert np.abs(read[0] * 255 - drawing()).max() < 20


def test_a_dark_drawing_on_white_is_inverted() -> None:
    assert (from_file(file_of(255 - drawing())) == from_file(file_of(drawing()))).all()


def test_inversion_can_be_forced_or_forbidden() -> None:
    light = file_of(255 - drawing())
    assert from_file(light, invert=False)[0, 0, 0] == 1
    assert from_file(light, invert=True)[0, 0, 0] == 0
    assert from_file(file_of(drawing()), invert=True)[0, 0, 0] == 1


def test_a_tenfold_enlargement_comes_back_exactly() -> None:
    large = np.kron(255 - drawing(), np.ones((10, 10), np.uint8))
    read = from_file(file_of(large))
    assert np.abs(read[0] * 255 - drawing()).max() < 0.01


def test_a_small_image_is_enlarged_smoothly() -> None:
    read = from_file(file_of(drawing()[::2, ::2]))
    assert read.shape == (1, 28, 28)
    assert read.max() > 0.8


def test_an_oblong_image_keeps_its_proportions() -> None:
    wide = np.full((50, 100), 255, np.uint8)
    wide[10:40, 35:65] = 0  # a square stays one
    read = from_file(file_of(wide))[0]
    rows, columns = np.nonzero(read > 0.5)
    assert np.ptp(rows) == np.ptp(columns)
    assert read[0].max() == read[-1].max() == 0  # padded with the background


@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000, 1)])
def test_an_image_that_is_one_long_line_costs_no_memory(shape: tuple[int, int]) -> None:
    assert from_file(saved(Image.new("1", shape))).shape == (1, 28, 28)


def test_a_dark_drawing_on_transparency_lies_on_white() -> None:
    rgba = np.zeros((28, 28, 4), np.uint8)
    rgba[..., 3] = drawing()  # black paint where the stroke is
    assert (np.rint(from_file(file_of(rgba))[0] * 255) == drawing()).all()


def test_a_light_drawing_on_transparency_lies_on_black() -> None:
    rgba = np.full((28, 28, 4), 255, np.uint8)
    rgba[..., 3] = drawing()
    assert (np.rint(from_file(file_of(rgba))[0] * 255) == drawing()).all()


def test_a_palette_with_a_transparent_colour_is_read() -> None:
    image = Image.fromarray((drawing() > 128).astype(np.uint8), "L").convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    for kind in ("PNG", "GIF"):
        read = from_file(saved(image, kind, transparency=0))
        assert ((read[0] > 0.5) == (drawing() > 128)).all()


def test_sixteen_bits_are_scaled() -> None:
    read = from_file(file_of(drawing().astype(np.uint16) * 257))
    assert np.abs(read[0] * 255 - drawing()).max() < 0.01


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_every_colour_mode_is_turned_grey(mode: str) -> None:
    square = Image.fromarray(((drawing() > 128) * 255).astype(np.uint8)).convert(mode)
    assert set(np.unique(from_file(saved(square)))) == {0.0, 1.0}


def test_print_colours_are_turned_grey() -> None:
    square = Image.fromarray(drawing()).convert("CMYK")
    read = from_file(saved(square, "JPEG", quality=95))
    assert np.abs(read[0] * 255 - drawing()).max() < 25


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.fromarray(drawing()), Image.fromarray(drawing().T.copy())]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (np.rint(from_file(data)[0] * 255) == drawing()).all()


def test_the_cameras_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn clockwise to see it upright
    lying = np.rot90(drawing()).copy()
    assert (np.rint(from_file(file_of(lying, exif=exif))[0] * 255) == drawing()).all()


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG file that claims a size it need not have."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0])) + chunk(b"IDAT", b"")


def test_twenty_megapixels_are_refused() -> None:
    with pytest.raises(ImageError, match="may have at most 16,000,000 pixels, this one has 20,000,000") as caught:
        from_file(saved(Image.new("L", (5000, 4000))))
    assert caught.value.field == "image"


@pytest.mark.parametrize("side", [10_000, 15_000, 60_000], ids=["quiet", "warned about", "refused by Pillow"])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(ImageError, match="an image may have at most 16,000,000 pixels"):
        from_file(png_header(side, side))


def test_the_limit_can_be_set() -> None:
    with pytest.raises(ImageError, match="may have at most 783 pixels, this one has 784"):
        from_file(file_of(drawing()), max_pixels=783)


def test_pixels_are_counted_without_decoding() -> None:
    assert count_pixels(png_header(4000, 3000)) == 12_000_000  # there is nothing to decode
    with pytest.raises(ImageError, match="may have at most 16,000,000 pixels, this one has 20,000,000"):
        count_pixels(png_header(5000, 4000))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "an empty file"),
        (b"hello, this is no image\n", "text"),
        (b"gr\xc3\xbc\xc3\x9fe", "text"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "a PostScript or PDF document"),
        (bytes([0, 1, 2, 3] * 10), "a file that begins with 00 01 02 03"),
        (file_of(drawing())[:60], "a damaged or truncated one"),
        (file_of(drawing(), "JPEG")[:200], "a damaged or truncated one"),
        (file_of(drawing(), "TIFF"), "a file that begins with 49 49 2a 00"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError, match="PNG, JPEG, GIF, BMP or WEBP format") as caught:
        from_file(data, field="files.2")
    assert str(caught.value).endswith(f"got {kind}")
    assert caught.value.field == "files.2"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can still read
def test_damage_is_never_more_than_an_image_error(kind: str) -> None:
    """One byte after another is changed, and the file cut there."""
    whole = file_of(drawing(), kind)
    for position in range(0, len(whole), 3):
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :]):
            try:
                assert from_file(damaged).shape == (1, 28, 28)
            except ImageError:
                continue


def test_a_model_with_channels_gets_the_grey_in_each() -> None:
    assert from_file(file_of(drawing()), (3, 14, 14)).shape == (3, 14, 14)


@pytest.mark.skipif(
    not any((Path(os.environ.get("INTFF_DATA_DIR", "-")) / "mnist").glob("t10k*")),
    reason="needs MNIST in INTFF_DATA_DIR; the drawing above stands in for it",
)
def test_an_mnist_digit_survives_files() -> None:
    digits = datasets.load(Mnist()).test_images[:20, 0]
    for digit in digits:
        assert (np.rint(from_file(file_of(digit))[0] * 255) == digit).all()
        scanned = np.kron(255 - digit, np.ones((10, 10), np.uint8))
        assert np.abs(from_file(file_of(scanned))[0] * 255 - digit).max() < 0.01


def test_reading_images_needs_no_torch() -> None:
    import subprocess  # noqa: PLC0415 -- only here

    code = "import sys, intff.images, intff.pictures, intff.datasets, intff.noise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("cut", [0, 40])
def test_a_pngs_packed_text_and_colour_profile_are_not_unpacked(cut: int) -> None:
    """A hundred megabytes in a few hundred kilobytes, of which Pillow alone would unpack 64 before it gives up."""
    text = PngInfo()
    for _ in range(100):
        text.add_text("Comment", "a" * 1_000_000, zip=True)
    plain, packed = (
        file_of(drawing()),
        file_of(drawing(), pnginfo=text, icc_profile=bytes(500_000)),
    )
    assert 100_000 < len(packed) < 1_000_000
    began = time.process_time()
    if cut:
        with pytest.raises(ImageError, match="damaged or truncated"):
            from_file(packed[:-cut])
    else:
        assert (from_file(packed) == from_file(plain)).all()
    assert time.process_time() - began < 0.1
