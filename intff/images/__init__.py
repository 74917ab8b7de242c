"""Images for prediction: converts JSON arrays and image files to floats from 0 to 1, or raises a specific error."""

from intff.images.files import FORMATS, count_pixels, from_file
from intff.images.numbers import from_json

__all__ = ["FORMATS", "count_pixels", "from_file", "from_json"]
