"""Predictions as JSON, for the documentation; responses themselves are serialized without these types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Prediction(BaseModel):
    """A model's prediction for one image."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    label: str
    """The winning label: the highest probability of a softmax classifier, else the highest goodness."""
    goodness: list[float] | None
    """For each label, the goodness summed over hidden units, each times its weight where `unit_weights` gives it one
    other than 1; null for backpropagation, which has no goodness."""
    probability_positive: list[float] | None
    """For each label, sigma(goodness - theta): how likely image and label belong together (the paper's likelihood)."""
    margin: float
    """The highest minus the second-highest score, of the kind that decided."""
    unit_goodness: list[list[float]] | None
    """For each hidden unit, the goodness for each label."""
    probabilities: list[float] | None = None
    """For each label, the softmax layer's probability; present only for a softmax classifier."""


class Predictions(BaseModel):
    """One prediction for each image, in the order of the request."""

    model: str
    labels: list[str]
    predictions: list[Prediction]


ONE_ANSWER: dict[str, Any] = {
    "model": "mdl_06f2k4m8",
    "labels": ["0", "1"],
    "predictions": [
        {
            "label": "1",
            "goodness": [0.25, 2.5],
            "probability_positive": [0.2227, 0.7311],
            "margin": 2.25,
            "unit_goodness": [[0.125, 1.0], [0.125, 1.5]],
        }
    ],
}

_IMAGE_FILE = {"schema": {"type": "string", "format": "binary"}}
_ROW = [0, 0, 84, 185, 159, 151, 60, 36]

PREDICTION_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "additionalProperties": False,
                "properties": {
                    "images": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "array", "items": {}},
                        "description": "Each image as rows of pixels, as channels of rows, or as one flat list.",
                    },
                    "scale": {
                        "type": ["string", "null"],
                        "enum": ["bytes", "unit", None],
                        "description": "Whether a pixel is 0 to 255 or 0 to 1; without it, integers are bytes.",
                    },
                },
            },
            "examples": {
                "nested": {
                    "summary": "One image of 8x8 pixels, as bytes",
                    "value": {"images": [[_ROW] * 8]},
                },
                "flat": {
                    "summary": "The same, flat and from 0 to 1",
                    "value": {"images": [[pixel / 256 for pixel in _ROW * 8]], "scale": "unit"},
                },
            },
        },
        "image/png": _IMAGE_FILE,
        "image/jpeg": _IMAGE_FILE,
        "image/*": _IMAGE_FILE,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "application/octet-stream": {
            "schema": {"type": "string", "format": "binary", "description": "One byte for each pixel of one image."}
        },
    },
}
