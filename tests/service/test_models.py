"""Models over HTTP: what is shown of them, their names and their files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest


def problem(response: httpx.Response, status: int, code: str) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    return body


def test_a_model_says_what_it_is(client: httpx.Client, make_model: Any) -> None:
    model_id = make_model(name="mine")
    client.put("/v1/aliases/production", json={"model": model_id})
    model = client.get(f"/v1/models/{model_id}").json()
    assert model["id"] == model_id
    assert (model["object"], model["name"]) == ("model", "mine")
    assert model["job_id"].startswith("job_")
    assert model["created_at"].endswith("Z")
    assert model["aliases"] == ["production"]
    assert model["labels"] == ["a", "b", "c"]
    assert model["image_shape"] == [1, 2, 2]
    assert (model["algorithm"], model["classifier"], model["theta"]) == ("intff", "goodness", 1.5)
    assert (model["units"], model["parameters"]) == (2, 24)
    assert model["result"] == {"test_accuracy": 0.5, "train_seconds": 1.5}
    assert model["spec"]["dataset"]["kind"] == "digits"
    assert [artifact["name"] for artifact in model["artifacts"]] == ["model.onnx", "spec.json", "weights.safetensors"]


def test_models_are_listed_newest_first_page_by_page(client: httpx.Client, make_model: Any) -> None:
    ids = [make_model() for _ in range(3)]
    page = client.get("/v1/models?limit=2").json()
    assert ([model["id"] for model in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    rest = client.get(f"/v1/models?limit=2&after={ids[1]}").json()
    assert ([model["id"] for model in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    for query in ("limit=0", "after=nonsense", "after=job_00000000000000000000000000", "after=%00"):
        problem(client.get(f"/v1/models?{query}"), 422, "invalid_request")


def test_latest_is_the_newest_and_an_alias_stays(client: httpx.Client, make_model: Any) -> None:
    problem(client.get("/v1/models/latest"), 404, "not_found")
    first = make_model()
    response = client.put("/v1/aliases/stable-1.0", json={"model": "latest"})
    assert response.json() == {"object": "alias", "alias": "stable-1.0", "model": first}
    second = make_model()
    assert client.get("/v1/models/latest").json()["id"] == second
    assert client.get("/v1/models/stable-1.0").json()["id"] == first
    client.put("/v1/aliases/stable-1.0", json={"model": second})
    assert client.get("/v1/models/stable-1.0").json()["id"] == second


def test_names_that_cannot_be_given_are_refused(client: httpx.Client, make_model: Any) -> None:
    model = make_model()
    refused = problem(client.put("/v1/aliases/latest", json={"model": model}), 409, "alias_reserved")
    assert refused["detail"] == "the alias 'latest' is reserved; choose another name"
    problem(client.put(f"/v1/aliases/{model}", json={"model": model}), 409, "alias_reserved")
    for alias in ("-a", "a b", "%00", "x" * 65, "%F0%9F%98%80"):
        problem(client.put(f"/v1/aliases/{alias}", json={"model": model}), 422, "invalid_request")
    problem(client.put("/v1/aliases/a", json={"model": "nobody"}), 404, "not_found")
    problem(client.put("/v1/aliases/a", json={"model": "\0"}), 422, "invalid_request")
    problem(client.put("/v1/aliases/a", json={}), 422, "invalid_request")
    problem(client.put("/v1/aliases/a", content=b"{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("model.onnx", "application/octet-stream"),
        ("weights.safetensors", "application/octet-stream"),
        ("spec.json", "application/json"),
        ("manifest.json", "application/json"),
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_file_comes_with_its_length_and_its_hash(
    client: httpx.Client, make_model: Any, name: str, media_type: str
) -> None:
    response = client.get(f"/v1/models/{make_model()}/artifacts/{name}")
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_only_files_of_the_manifest_are_served(client: httpx.Client, make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    [spec] = (tmp_path / "artifacts").rglob("spec.json")
    (spec.parent / "secret.txt").write_text("not for you")
    for name in ("secret.txt", "..%2Fspec.json", "%2e%2e", "%2Fetc%2Fpasswd", "nothing", "%00", "spec.json%00"):
        response = client.get(f"/v1/models/{model}/artifacts/{name}")
        problem(response, 404, "not_found")


def test_damaged_files_are_not_served(client: httpx.Client, make_model: Any, tmp_path: Path) -> None:
    model = make_model()
    [weights] = (tmp_path / "artifacts").rglob("weights.safetensors")
    weights.write_bytes(b"short")
    problem(client.get(f"/v1/models/{model}/artifacts/weights.safetensors"), 503, "model_corrupt")
    weights.unlink()
    problem(client.get(f"/v1/models/{model}/artifacts/weights.safetensors"), 503, "model_corrupt")
    weights.with_name("manifest.json").write_text("{}")
    problem(client.get(f"/v1/models/{model}/artifacts/manifest.json"), 503, "model_corrupt")


def test_presets_are_whole_specs(client: httpx.Client) -> None:
    presets = {preset["name"]: preset for preset in client.get("/v1/presets").json()["data"]}
    assert presets["table1_bp_small"]["description"] == "Table 1, row 3"
    assert presets["table1_bp_small"]["spec"]["architecture"]["units"] == [[100, 50, 30, 10]]
    assert presets["table1_bp_small"]["spec"]["training"]["batch_size"] == 256
