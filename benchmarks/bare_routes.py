"""Routes that accept a prediction request and compute nothing, to measure the overhead of the framework itself."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from service.schemas.predictions import Predictions

LABELS = [str(label) for label in range(10)]
CONSTANT: dict[str, Any] = {
    "model": "mdl_06f2k4m8p1q3s5t7v9w0x2y4z6",
    "labels": LABELS,
    "predictions": [
        {
            "label": "7",
            "goodness": [0.1234567890123456 * (label + 1) for label in range(10)],
            "probability_positive": [0.0876543210987654 * (label + 1) for label in range(10)],
            "margin": 1.9345678901234567,
            "unit_goodness": [[0.0617283945061728 * (label + 1) for label in range(10)]] * 2,
        }
    ],
}
_HEAD = [(b"content-type", b"application/json"), (b"content-length", b"2")]

app = FastAPI()


class Images(BaseModel):
    """A list of images as nested lists."""

    images: list[list[list[float]]]


@app.post("/dict")
async def plain(body: dict[str, Any]) -> dict[str, Any]:
    """The simplest route: any JSON object in, a dict out."""
    del body
    return CONSTANT


@app.post("/typed", response_model_exclude_none=True)
async def typed(body: Images) -> Predictions:
    """A route as in FastAPI's tutorial: pydantic validates the request and the response."""
    del body
    return Predictions.model_validate(CONSTANT)


@app.post("/lean")
async def lean(request: Request) -> JSONResponse:
    """The leanest route: the standard library's JSON in both directions, without validation."""
    json.loads(await request.body())
    return JSONResponse(CONSTANT)


@app.post("/bytes")
async def raw(request: Request) -> Response:
    """The same for a body that is not JSON."""
    await request.body()
    return JSONResponse(CONSTANT)


async def ceiling(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 -- ASGI's own shapes
    """No framework at all: the upper limit of the server and the load generator on this machine."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEAD})
    await send({"type": "http.response.body", "body": b"{}"})
