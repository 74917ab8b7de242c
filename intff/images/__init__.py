"""Images for prediction: JSON arrays and image files become floats of 0 to 1, or an error that says why not."""

from intff.images.files import FORMATS, count_pixels, from_file
from intff.images.numbers import from_json

__all__ = ["FORMATS", "count_pixels", "from_file", "from_json"]
