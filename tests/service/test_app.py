"""The application as a whole: what importing it costs, what it answers anywhere, and what it says of itself."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.problems import KINDS
from store.errors import SettingsError
from store.settings import Settings

PROBLEM = "application/problem+json"
ROUTES = {
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{job_id}"),
    ("POST", "/v1/jobs/{job_id}/cancel"),
    ("POST", "/v1/jobs/{job_id}/pause"),
    ("POST", "/v1/jobs/{job_id}/resume"),
    ("GET", "/v1/jobs/{job_id}/metrics"),
    ("GET", "/v1/jobs/{job_id}/events"),
    ("GET", "/v1/jobs/{job_id}/plot.svg"),
    ("GET", "/v1/jobs/{job_id}/plot.png"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("PUT", "/v1/aliases/{alias}"),
    ("GET", "/v1/models/{model}/artifacts/{name}"),
    ("POST", "/v1/models/{model}/predict"),
    ("GET", "/v1/presets"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}

# Which database there is makes no difference to any of this.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


@pytest.mark.usefixtures("database_url")
def test_importing_the_application_needs_no_torch_and_opens_nothing(tmp_path: Path) -> None:
    program = "import service.app, sys; print(sorted({'torch', 'onnx', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    environment = {
        **os.environ,
        "INTFF_HOME": str(tmp_path / "home"),
        "INTFF_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/gone",
        "INTFF_BROKER_URL": "redis://127.0.0.1:1",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n", "")
    assert not (tmp_path / "home").exists()


def test_no_garbage_collection_looks_through_what_was_there_at_the_start(settings: Settings, serve: Any) -> None:
    with serve(create_app(settings)) as client:
        assert client.get("/healthz").status_code == 200
        assert gc.get_freeze_count() > 50_000
    assert gc.get_freeze_count() == 0


def test_a_bind_that_anybody_reaches_needs_keys(settings: Settings, serve: Any) -> None:
    with pytest.raises(SettingsError, match="without API keys"):
        settings.model_copy(update={"host": "0.0.0.0"}).require_safe_bind()  # what the lifespan asks first
    with serve(create_app(settings)) as client:
        assert client.get("/healthz").json() == {"status": "ok"}


def test_every_route_of_the_design_is_there_and_no_other(document: dict[str, Any]) -> None:
    assert {(method, path) for method, path, _ in operations(document)} == ROUTES


def test_operations_have_tidy_names_and_a_sentence(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(name.replace("_", "").isalpha() for name in names)
    assert all(operation["description"].endswith(".") for _, _, operation in operations(document))


def test_every_documented_error_is_a_problem_with_an_example(document: dict[str, Any]) -> None:
    seen = set()
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            assert list(response["content"]) == [PROBLEM], (method, path, status)
            content = response["content"][PROBLEM]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in content["examples"].items():
                seen.add(code)
                assert example["value"]["status"] == int(status)
                assert example["value"]["code"] == code
    assert seen == KINDS.keys() - {"method_not_allowed", "malformed_request"}  # which belong to no operation


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(json.loads(json.dumps(document))).validate()


def test_every_answer_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            if content is None:
                continue
            assert "example" in content, (method, path, status)
            schema = {**content["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(content["example"])


def test_the_limit_on_requests_is_told_where_a_key_is_asked_for(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "security" in operation:
            told = operation["responses"]["429"]["content"][PROBLEM]["examples"]
            assert "rate_limited" in told, (method, path)


def test_every_operation_with_a_key_says_so(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        is_open = path in {"/healthz", "/readyz"}
        assert ("security" in operation) is not is_open, (method, path)
        assert ("401" in operation["responses"]) is not is_open, (method, path)


def test_every_body_has_examples(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], (method, path)
    submit = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert set(submit["examples"]) == {"short", "preset", "convolution", "long"}
    stored = document["components"]["schemas"]["Job"]["properties"]["spec"]
    assert "TrainSpec" in json.dumps(stored)


def test_the_examples_of_a_job_are_accepted(client: httpx.Client, document: dict[str, Any]) -> None:
    submit = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    for example in submit["examples"].values():
        assert client.post("/v1/jobs", json=example["value"]).status_code == 202


def test_what_no_route_answers_is_a_problem_too(client: httpx.Client) -> None:
    missing = client.get("/v1/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, PROBLEM)
    assert missing.json()["detail"] == "there is no route /v1/nothing; /docs lists them"
    wrong = client.delete("/v1/jobs")
    assert (wrong.status_code, wrong.headers["content-type"], wrong.headers["allow"]) == (405, PROBLEM, "GET, POST")
    assert wrong.json()["code"] == "method_not_allowed"


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    whole, head = client.get("/v1/jobs"), client.head("/v1/jobs")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == "28"
    assert client.head("/v1/models/latest/predict").status_code == 405
    assert client.get("/healthz").json() == {"status": "ok"}  # on the same connection, which no body confused


def test_a_body_that_is_too_large_is_a_413_declared_or_not(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    for path, content in (
        ("/v1/jobs", b" " * (2**20 + 1)),
        ("/v1/jobs", chunks()),
        ("/v1/models/latest/predict", chunks()),
    ):
        try:
            response = client.post(path, content=content, headers=headers)
        except httpx.TransportError:
            continue  # refused while it was still being sent, which is what the limit is for
        expected = {413, 404} if "predict" in path else {413}
        assert response.status_code in expected
        assert response.headers["content-type"] == PROBLEM


def test_an_unexpected_failure_is_a_500_without_a_traceback(
    app: FastAPI, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    app.state.parts.predictor._sessions = None
    logging.getLogger().addHandler(caplog.handler)
    response = client.post("/v1/models/latest/predict", headers={"X-Request-ID": "r-1"}, json={})
    assert (response.status_code, response.headers["content-type"]) == (500, PROBLEM)
    assert response.headers["x-request-id"] == "r-1"
    assert response.json()["detail"] == "internal server error; details are in the server's log under request id r-1"
    [logged] = [record for record in caplog.records if "request_failed" in str(record.msg)]
    assert "r-1" in str(logged.msg)


def test_a_request_id_is_kept_when_it_is_sane_and_made_otherwise(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in ("x" * 200, "a b", '"'):
        made = client.get("/healthz", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert len(made) == 32


def test_the_door_leads_to_the_documentation(client: httpx.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
    assert client.get("/openapi.json").json()["info"]["title"] == "IntFF"


def test_the_documentation_needs_no_other_site(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "//" not in re.sub("<!--.*?-->", "", page.text)
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert [path.rpartition("/")[2] for path in files] == ["swagger-ui.css", "swagger-ui-bundle.js"]
    assert [client.get(path).status_code for path in files] == [200, 200]
    assert client.get("/docs/files/nothing").headers["content-type"] == PROBLEM


def test_no_other_site_is_let_in(client: httpx.Client) -> None:
    response = client.get("/v1/jobs", headers={"Origin": "https://elsewhere.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_prefix_that_a_proxy_takes_off_stands_before_every_path_that_is_told(app: FastAPI) -> None:
    async def ask() -> list[str]:
        transport = httpx.ASGITransport(app=app, root_path="/ml")
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://testserver", follow_redirects=False) as inside,
        ):
            page = await inside.get("/ml/docs")
            submitted = await inside.post("/ml/v1/jobs", json={"spec": {}})
            door = await inside.get("/ml/")
        files = re.findall(r'(?:src|href)="(/[^"]+/)', page.text)
        return [*files, submitted.headers["location"], door.headers["location"]]

    *files, job, documentation = asyncio.run(ask())
    assert files == ["/ml/docs/files/", "/ml/docs/files/"]
    assert job.startswith("/ml/v1/jobs/job_")
    assert documentation == "/ml/docs"
