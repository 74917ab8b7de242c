"""Predictions over HTTP: every form of body, the numbers, and what is refused."""

from __future__ import annotations

import io
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from service.lines import Line
from service.routes import predictions

# How the model was found in the database is the business of test_models.py.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# Pixels whose scores come out exactly: once they are unit 1's, twice unit 2's, three times the goodness.
PIXELS = [0.25, 0.5, 1.0, 0.0]
ANSWER: dict[str, Any] = {
    "label": "c",
    "goodness": [0.75, 1.5, 3.0],
    # The sigmoids of -0.75, 0 and 1.5.
    "probability_positive": [pytest.approx(0.3208213, abs=1e-6), 0.5, pytest.approx(0.8175745, abs=1e-6)],
    "margin": 1.5,
    "unit_goodness": [[0.25, 0.5, 1.0], [0.5, 1.0, 2.0]],
}


def predict(client: httpx.Client, model: str, images: Any, **more: Any) -> Any:
    return client.post(f"/v1/models/{model}/predict", json={"images": images, **more})


def png(pixels: list[int], mode: str = "L") -> bytes:
    image = Image.new(mode, (2, 2))
    image.putdata(pixels)
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of which only the beginning is right: decoding it fails."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunks = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in ((b"IHDR", size), (b"IDAT", b"damaged"))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def problem(response: Any, status: int, code: str) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    return body


def test_an_answer_has_one_goodness_per_label(client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    response = predict(client, model, [PIXELS])
    assert response.status_code == 200
    assert response.json() == {"model": model, "labels": ["a", "b", "c"], "predictions": [ANSWER]}


@pytest.mark.parametrize("image", [PIXELS, [PIXELS[:2], PIXELS[2:]], [[PIXELS[:2], PIXELS[2:]]]])
def test_an_image_may_be_flat_or_nested(client: httpx.Client, make_model: Any, image: Any) -> None:
    assert predict(client, make_model(), [image]).json()["predictions"] == [ANSWER]


def test_integers_are_bytes_and_scale_says_otherwise(client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    by_default = predict(client, model, [[0, 0, 255, 0]]).json()["predictions"][0]
    assert by_default["goodness"] == [0.0, 0.0, 3.0]
    as_units = predict(client, model, [[0, 0, 1, 0]], scale="unit").json()["predictions"][0]
    assert as_units["goodness"] == [0.0, 0.0, 3.0]


def test_a_softmax_classifier_has_probabilities_and_decides_by_them(client: httpx.Client, make_model: Any) -> None:
    answer = predict(client, make_model("softmax"), [PIXELS]).json()["predictions"][0]
    # The softmax of 0.75, 1.5, 3
    assert answer["probabilities"] == pytest.approx([0.0793353, 0.1679528, 0.7527120], abs=1e-6)
    assert answer["goodness"] == [0.75, 1.5, 3.0]
    assert answer["margin"] == pytest.approx(answer["probabilities"][2] - answer["probabilities"][1])


def test_backpropagation_has_no_goodness(client: httpx.Client, make_model: Any) -> None:
    answer = predict(client, make_model("softmax", "bp"), [PIXELS]).json()["predictions"][0]
    assert answer["goodness"] is None
    assert answer["probability_positive"] is None
    assert answer["unit_goodness"] is None
    assert answer["label"] == "c"


def test_predictions_come_in_the_order_of_the_images(client: httpx.Client, make_model: Any) -> None:
    images = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]] * 100  # more than one run
    answer = predict(client, make_model(), images).json()
    assert [each["label"] for each in answer["predictions"]] == ["a", "b", "c"] * 100


def test_one_image_file_may_be_the_body(client: httpx.Client, make_model: Any) -> None:
    response = client.post(
        f"/v1/models/{make_model()}/predict?invert=false",
        content=png([0, 0, 255, 0]),
        headers={"Content-Type": "image/png"},
    )
    assert response.json()["predictions"][0]["goodness"] == [0.0, 0.0, 3.0]


def test_a_light_background_is_inverted_unless_told_otherwise(client: httpx.Client, make_model: Any) -> None:
    url = f"/v1/models/{make_model()}/predict"
    body, headers = png([255, 255, 0, 255]), {"Content-Type": "image/png"}
    assert client.post(url, content=body, headers=headers).json()["predictions"][0]["label"] == "c"
    kept = client.post(f"{url}?invert=false", content=body, headers=headers).json()["predictions"][0]
    assert kept["goodness"] == [3.0, 3.0, 0.0]
    turned = client.post(f"{url}?invert=true", content=body, headers=headers).json()["predictions"][0]
    assert turned["goodness"] == [0.0, 0.0, 3.0]


def test_several_files_come_as_a_form(client: httpx.Client, make_model: Any) -> None:
    files = [("images", ("1.png", png([255, 0, 0, 0]))), ("images", ("2.png", png([0, 255, 0, 0])))]
    answer = client.post(f"/v1/models/{make_model()}/predict?invert=false", files=files).json()
    assert [each["label"] for each in answer["predictions"]] == ["a", "b"]


def test_the_bytes_of_one_image_may_be_the_body(client: httpx.Client, make_model: Any) -> None:
    url, headers = f"/v1/models/{make_model()}/predict", {"Content-Type": "application/octet-stream"}
    answer = client.post(url, content=bytes([0, 0, 255, 0]), headers=headers).json()
    assert answer["predictions"][0]["goodness"] == [0.0, 0.0, 3.0]
    refused = problem(client.post(url, content=b"123", headers=headers), 422, "invalid_image")
    assert refused["detail"] == "an image for this model has 4 bytes, one per pixel, got 3"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b'{"images": []}', "invalid_image", "images"),
        (b'{"images": [[1, 2, 3]]}', "invalid_image", "images.0"),
        (b'{"images": [[0.5, NaN, 0, 0]]}', "invalid_image", "images.0.1"),
        (b'{"images": [[0.5, 1e999, 0, 0]]}', "invalid_image", "images.0.1"),
        (b'{"images": [[0, 256, 0, 0]]}', "invalid_image", "images.0.1"),
        (b'{"images": [[0, "1", 0, 0]]}', "invalid_image", "images.0.1"),
        (b'{"images": [[0, true, 0, 0]]}', "invalid_image", "images.0.1"),
        (b'{"images": 5}', "invalid_image", "images"),
        (b'{"images": [1, 2, 3, 4]}', "invalid_image", "images"),
        (b"{}", "invalid_request", "images"),
        (b"[]", "invalid_request", "body"),
        (b"", "invalid_request", "body"),
        (b'{"images"', "invalid_request", "body"),
        (b'{"images": [[0, 0, 0, 0]], "scale": "big"}', "invalid_request", "scale"),
        (b'{"images": [[0, 0, 0, 0]], "scales": "unit"}', "invalid_request", "scales"),
        (b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_request", "body"),
        (b'{"images": [[0, 0, 0, 0]], "\\ud800": 1}', "invalid_request", None),
    ],
)
def test_bad_json_is_a_422_that_names_the_field(
    client: httpx.Client, make_model: Any, body: bytes, code: str, field: str | None
) -> None:
    response = client.post(
        f"/v1/models/{make_model()}/predict", content=body, headers={"Content-Type": "application/json"}
    )
    errors = problem(response, 422, code)["errors"]
    assert field is None or errors[0]["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        b'{"images": [[0, 0, 0, 0]], "images": [[1, 1, 1, 1]]}',
        b'{"images": [[0, 0, 0, 0]], "\\u0069mages": [[1, 1, 1, 1]]}',
        b'{"images": [[0, 0, 0, 0]], "scale": "unit", "scale": "bytes"}',
        b'{"images": [[0, 0, 0, 0]], "scale": null, "\\u0073cale": null}',
    ],
)
def test_a_key_that_is_there_twice_is_refused(client: httpx.Client, make_model: Any, body: bytes) -> None:
    path = f"/v1/models/{make_model()}/predict"
    for _ in range(2):  # the second time the model is in memory, and another reads the body
        response = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert "twice" in problem(response, 422, "invalid_request")["detail"]


@pytest.mark.parametrize("scale", ["null", '"bytes"', '"\\u0062ytes"'])
def test_a_scale_may_be_there_once(client: httpx.Client, make_model: Any, scale: str) -> None:
    path = f"/v1/models/{make_model()}/predict"
    body = f'{{"scale": {scale}, "images": [[0, 255, 51, 1]]}}'
    answers = [
        client.post(path, content=each, headers={"Content-Type": "application/json"}).json()
        for each in (body, '{"images": [[0, 255, 51, 1]]}')
    ]
    assert answers[0] == answers[1]


def test_text_sent_as_png_is_named(client: httpx.Client, make_model: Any) -> None:
    response = client.post(
        f"/v1/models/{make_model()}/predict", content=b"hello, I am text", headers={"Content-Type": "image/png"}
    )
    assert problem(response, 422, "invalid_image")["detail"].endswith("got text")


def test_an_image_of_twenty_megapixels_is_refused_before_it_is_decoded(client: httpx.Client, make_model: Any) -> None:
    written = io.BytesIO()
    Image.new("1", (5000, 4000)).save(written, "PNG")
    url, headers = f"/v1/models/{make_model()}/predict", {"Content-Type": "image/png"}
    refused = problem(client.post(url, content=written.getvalue(), headers=headers), 422, "invalid_image")
    assert "16,000,000 pixels, this one has 20,000,000" in refused["detail"]


@pytest.mark.parametrize(
    ("sizes", "code", "detail"),
    [
        # 16,000,000 pixels each
        ([(4000, 4000)] * 4, "invalid_image", "images.0: this is not an image file"),
        ([(4000, 4000)] * 5, "invalid_request", "images: the files of a request may have 64,000,000 pixels in total, "),
        # 12,800,000 pixels each
        ([(4000, 3200)] * 5, "invalid_image", "images.0: this is not an image file"),
        ([(4000, 3200)] * 5 + [(1, 1)], "invalid_request", "images: the files of a request may have 64,000,000 pixels"),
        ([(1, 1)] * 5 + [(5000, 4000)], "invalid_image", "images.5: an image may have 16,000,000 pixels"),
    ],
)
def test_the_pixels_of_all_files_together_are_limited_before_one_is_decoded(
    client: httpx.Client, make_model: Any, sizes: list[tuple[int, int]], code: str, detail: str
) -> None:
    """Where they are few enough the first file is decoded, which fails."""
    files = [("images", ("1.png", png_header(*size))) for size in sizes]
    response = client.post(f"/v1/models/{make_model()}/predict", files=files)
    assert problem(response, 422, code)["detail"].startswith(detail)


def test_a_broken_file_of_a_form_is_named_by_its_place(client: httpx.Client, make_model: Any) -> None:
    files = [("images", ("1.png", png([255, 0, 0, 0]))), ("images", ("2.png", b"hello"))]
    response = client.post(f"/v1/models/{make_model()}/predict", files=files)
    assert problem(response, 422, "invalid_image")["errors"][0]["field"] == "images.1"


def test_text_in_a_form_is_refused(client: httpx.Client, make_model: Any) -> None:
    response = client.post(f"/v1/models/{make_model()}/predict", files={"image": (None, "digit.png")})
    assert problem(response, 422, "invalid_request")["errors"][0]["field"] == "image"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"--b\r\n\r\n"])
def test_a_broken_form_is_refused(client: httpx.Client, make_model: Any, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = client.post(f"/v1/models/{make_model()}/predict", content=body, headers=headers)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_type_of_body_is_a_415(client: httpx.Client, make_model: Any, media_type: str) -> None:
    response = client.post(
        f"/v1/models/{make_model()}/predict", content=b"1 2 3 4", headers={"Content-Type": media_type}
    )
    assert "application/json, image/*" in problem(response, 415, "unsupported_media_type")["detail"]


def test_more_images_than_allowed_are_refused(client: httpx.Client, make_model: Any) -> None:
    response = predict(client, make_model(), [[0, 0, 0, 0]] * 1025)
    expected = "a request may have at most 1,024 images, got 1,025; split them over several requests"
    assert problem(response, 422, "invalid_request")["errors"] == [{"field": "images", "message": expected}]


def test_large_predictions_wait_in_a_line_of_limited_length(
    app: FastAPI, client: httpx.Client, make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is computed, two may wait, the fourth is refused; meanwhile small ones are answered."""
    begun, go_on = threading.Event(), threading.Event()
    written = predictions.written

    def slow(*arguments: Any) -> bytes:
        begun.set()
        assert go_on.wait(20)
        return written(*arguments)

    model = make_model()
    assert predict(client, model, [PIXELS]).status_code == 200
    line = Line(threads=1, most_waiting=2, what="predictions")
    monkeypatch.setattr(app.state, "parts", replace(app.state.parts, predictions=line))
    monkeypatch.setattr(predictions, "written", slow)
    files = [("images", ("1.png", png([255, 0, 0, 0])))] * 2  # several files go to a thread

    def ask() -> httpx.Response:
        return client.post(f"/v1/models/{model}/predict", files=files)

    with ThreadPoolExecutor(3) as pool:
        try:
            first = pool.submit(ask)
            assert begun.wait(20)
            waiting = [pool.submit(ask) for _ in range(2)]
            deadline = time.monotonic() + 20
            while line.inside < 3:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            refused = ask()
            small = predict(client, model, [PIXELS])
        finally:
            go_on.set()
        assert [each.result().status_code for each in (first, *waiting)] == [200, 200, 200]
    problem(refused, 429, "rate_limited")
    assert refused.headers["retry-after"] == "5"
    assert small.status_code == 200


def test_a_model_that_is_not_there_is_a_404(client: httpx.Client) -> None:
    for name in ("latest", "nobody", "mdl_00000000000000000000000000", "%00", "x" * 500, "%F0%9F%98%80"):
        problem(predict(client, name, [PIXELS]), 404, "not_found")


def test_latest_follows_the_newest_model(client: httpx.Client, make_model: Any) -> None:
    first = make_model()
    assert predict(client, first, [PIXELS]).json()["model"] == first
    second = make_model()
    assert predict(client, "latest", [PIXELS]).json()["model"] == second


def test_an_alias_that_was_just_moved_is_never_stale(client: httpx.Client, make_model: Any) -> None:
    models = [make_model(), make_model()]
    for turn in range(20):
        model = models[turn % 2]
        assert client.put("/v1/aliases/production", json={"model": model}).status_code == 200
        assert predict(client, "production", [PIXELS]).json()["model"] == model


def test_a_graph_that_was_changed_on_disk_is_never_served(
    client: httpx.Client, make_model: Any, tmp_path: Path
) -> None:
    model = make_model()
    [graph] = (tmp_path / "artifacts").rglob("model.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    problem(predict(client, model, [PIXELS]), 503, "model_corrupt")
    graph.unlink()
    problem(predict(client, model, [PIXELS]), 503, "model_corrupt")


def test_a_loaded_model_needs_no_database(app: FastAPI, client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    assert predict(client, model, [PIXELS]).status_code == 200
    app.state.parts.predictor._sessions = None
    assert predict(client, model, [PIXELS]).status_code == 200


def test_only_so_many_models_stay_in_memory(app: FastAPI, client: httpx.Client, make_model: Any) -> None:
    predictor = app.state.parts.predictor
    predictor._most_models = 2
    for model in [make_model() for _ in range(3)]:
        assert predict(client, model, [PIXELS]).status_code == 200
    assert len(predictor._models) == 2
