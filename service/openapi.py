"""The OpenAPI document: its general description, and the problem schema that every error shares."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.parts import Parts
from service.problems import ProblemDocument
from service.schemas.examples import EXAMPLES

ABOUT: dict[str, Any] = {
    "title": "IntFF",
    "version": version("intff"),
    "summary": "Train networks with the Integrated Forward-Forward algorithm, and classify images with them.",
    "description": (
        "Submit a training job, watch it, and query the model it publishes for one goodness per label. "
        "Errors are RFC 9457 problem documents with a stable `code`."
    ),
    "openapi_tags": [
        {"name": "jobs", "description": "Training runs."},
        {"name": "models", "description": "Models published by succeeded jobs, and their aliases."},
        {"name": "predictions", "description": "Classifying images."},
        {"name": "presets", "description": "Named training specs."},
        {"name": "service", "description": "Health and metrics."},
    ],
    "docs_url": None,  # `service.routes.documentation` has one that works without the internet
    "redoc_url": None,
}


def install(app: FastAPI) -> None:
    """Make the application describe itself, including the schema that its errors refer to."""

    def document() -> dict[str, Any]:
        described = whole()
        parts: Parts | None = getattr(app.state, "parts", None)
        return described if parts is None or not parts.keyring.is_open else _without_keys(described)

    def whole() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                tags=app.openapi_tags,
                routes=app.routes,
            )
            _drop_foreign_errors(described)
            _add_examples(described)
            problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            described["components"]["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _without_keys(described: dict[str, Any]) -> dict[str, Any]:
    """The document of a service that requires no key: declaring one would promise a 401 that never comes."""
    paths = {
        path: {
            method: {name: value for name, value in operation.items() if name != "security"}
            for method, operation in operations.items()
        }
        for path, operations in described["paths"].items()
    }
    return {**described, "paths": paths}


def _drop_foreign_errors(described: dict[str, Any]) -> None:
    """Remove the framework's own 422, which it lists for every path parameter but which is never sent."""
    for operations in described["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        described["components"]["schemas"].pop(name, None)


def _add_examples(described: dict[str, Any]) -> None:
    """Add an example to each success. FastAPI would drop the nulls of an example that is given with a route."""
    for operations in described["paths"].values():
        for operation in operations.values():
            example = EXAMPLES.get(operation["operationId"])
            succeeded = min(operation["responses"])
            if example is not None:
                operation["responses"][succeeded]["content"]["application/json"]["example"] = example
