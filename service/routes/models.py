"""Listing and reading models, setting aliases, and downloading files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import StreamingResponse

from service.dependencies import SIGNED_IN, ModelNameDep, OwnerDep, PartsDep, ReadSessionDep, SessionDep
from service.model_files import MEDIA_TYPES, OTHER_MEDIA_TYPE, open_file
from service.problems import documented
from service.schemas.models import ALIAS_PATTERN, ALIAS_REQUESTS, Alias, AliasRequest, Model, ModelPage
from service.snapshots import model_of
from store import queries
from store.ids import id_pattern

router = APIRouter(
    prefix="/v1",
    tags=["models"],
    **SIGNED_IN,
    responses=documented("unauthorized", "rate_limited", "internal_error", "unavailable"),
)


@router.get("/models", operation_id="list_models", responses=documented("invalid_request"))
def list_models(
    parts: PartsDep,
    owner: OwnerDep,
    session: ReadSessionDep,
    after: Annotated[
        str | None, Query(pattern=id_pattern("model"), description="The last id of the previous page.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
) -> ModelPage:
    """List models, newest first."""
    page = queries.list_models(session, owner=owner, after=after, limit=limit)
    names = queries.aliases_of(session, [row.id for row in page.rows])
    for row in page.rows:
        parts.predictor.heard_of(row.id)
    return ModelPage(data=[model_of(row, names[row.id]) for row in page.rows], has_more=page.has_more)


@router.get("/models/{model}", operation_id="get_model", responses=documented("not_found"))
def get_model(model: ModelNameDep, parts: PartsDep, owner: OwnerDep, session: ReadSessionDep) -> Model:
    """Get one model, by its id or an alias; `latest` is the newest."""
    row = queries.get_model(session, model, owner=owner)
    parts.predictor.heard_of(row.id)
    return model_of(row, queries.aliases_of(session, [row.id])[row.id])


@router.get(
    "/models/{model}/artifacts/{name}",
    operation_id="download_artifact",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file; its `ETag` is its SHA-256.",
            "content": {
                OTHER_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"type": "object"}},
            },
        },
        **documented("not_found", "model_corrupt", "unavailable"),
    },
)
def download_artifact(
    model: ModelNameDep,
    name: Annotated[str, Path(description="The name of one of the model's artifacts, or `manifest.json`.")],
    parts: PartsDep,
    owner: OwnerDep,
    session: ReadSessionDep,
) -> StreamingResponse:
    """Download one of a model's files: `weights.safetensors`, `model.onnx`, `spec.json` or `manifest.json`."""
    row = queries.get_model(session, model, owner=owner)
    file = open_file(parts.artifacts, row, name)
    headers = {
        "Content-Length": str(file.size),
        "ETag": f'"{file.sha256}"',
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return StreamingResponse(file.chunks, media_type=MEDIA_TYPES.get(name, OTHER_MEDIA_TYPE), headers=headers)


@router.put(
    "/aliases/{alias}",
    operation_id="set_alias",
    responses=documented(
        "not_found", "alias_reserved", "too_slow", "payload_too_large", "unsupported_media_type", "invalid_request"
    ),
)
def set_alias(
    alias: Annotated[str, Path(pattern=ALIAS_PATTERN, description="The alias; an existing one is moved.")],
    request: Annotated[AliasRequest, Body(openapi_examples=ALIAS_REQUESTS)],
    parts: PartsDep,
    owner: OwnerDep,
    session: SessionDep,
) -> Alias:
    """Point an alias at a model. Predictions that use the alias get this model from now on."""
    row = queries.set_alias(session, alias, request.model, owner=owner)
    session.commit()
    parts.predictor.forget_aliases()
    return Alias(alias=row.alias, model=row.model_id)
