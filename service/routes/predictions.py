"""Classifying images: the most called route, so it avoids overhead that others can afford."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from intff.predictions import Prediction
from service.dependencies import SIGNED_IN, ModelNameDep, OwnerDep, PartsDep
from service.image_bodies import ImageBody, Invert, read_body
from service.prediction import ServedModel
from service.problems import documented
from service.schemas.predictions import ONE_ANSWER, PREDICTION_BODY, Predictions

PATH = "/v1/models/{model}/predict"

router = APIRouter(tags=["predictions"], **SIGNED_IN)

_INLINE_SECONDS = 0.002  # a thread costs about a tenth of this; anything longer would block other requests


@router.post(
    PATH,
    operation_id="predict",
    openapi_extra={"requestBody": PREDICTION_BODY},
    responses={
        200: {"model": Predictions, "content": {"application/json": {"example": ONE_ANSWER}}},
        **documented(
            "unauthorized",
            "rate_limited",
            "not_found",
            "too_slow",
            "payload_too_large",
            "unsupported_media_type",
            "invalid_image",
            "invalid_request",
            "internal_error",
            "model_corrupt",
            "unavailable",
        ),
    },
)
async def predict(
    request: Request,
    model: ModelNameDep,
    parts: PartsDep,
    owner: OwnerDep,
    invert: Annotated[
        Invert, Query(description="Whether to invert image files to light on dark; auto decides by the background.")
    ] = "auto",
) -> Response:
    """Classify one or many images.

    Send JSON (`{"images": [...]}`, each image nested or flat), one image file as the body, several as
    a form, or the raw pixels of exactly one image, a byte each. Integers are pixels from 0 to 255; if any
    value is a float, pixels range from 0 to 1. `"scale": "bytes"` or `"unit"` sets this explicitly.
    """
    served = await parts.predictor.find(model, owner)
    body = await read_body(request, parts.image_limits)

    def answer() -> tuple[int, bytes]:
        images = body.decode(served.image_shape, invert, parts.image_limits)
        return len(images), written(served, served.predict(images))

    if is_quick(served, body):
        images, content = answer()
    else:
        images, content = await parts.predictions.run(answer)
    parts.metrics.saw_predictions(images)
    return Response(content, media_type="application/json")


def is_quick(served: ServedModel, body: ImageBody) -> bool:
    """Whether computing the answer is too quick to be worth a thread."""
    return body.is_small and served.seconds_per_image * body.most_images(served.image_shape) < _INLINE_SECONDS


def written(served: ServedModel, predictions: list[Prediction]) -> bytes:
    """The answer as JSON; a number that is not finite becomes null."""
    answer = {"model": served.id, "labels": served.labels, "predictions": [_shown(each) for each in predictions]}
    return orjson.dumps(answer)


def _shown(prediction: Prediction) -> dict[str, Any]:
    shown = dict(vars(prediction))
    if prediction.probabilities is None:
        del shown["probabilities"]
    return shown
