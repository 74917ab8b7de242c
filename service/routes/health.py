"""Health, readiness and metrics, and the redirect to the documentation."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from service.dependencies import SIGNED_IN, PartsDep, PathPrefixDep
from service.problems import documented, problem_response

router = APIRouter(tags=["service"])
signed_in_router = APIRouter(tags=["service"], **SIGNED_IN)


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The state of the parts that requests need."""

    status: Literal["ok"] = "ok"
    database: str
    broker: str


@router.get("/", include_in_schema=False)
async def go_to_documentation(prefix: PathPrefixDep) -> RedirectResponse:
    """Send a browser that opens the service's address to the documentation."""
    return RedirectResponse(f"{prefix}/docs")


@router.get("/healthz", operation_id="get_health")
async def get_health() -> Health:
    """Check that the process is alive. It asks no other part, and needs no key."""
    return Health()


@router.get("/readyz", operation_id="get_readiness", response_model=Readiness, responses=documented("not_ready"))
async def get_readiness(request: Request, parts: PartsDep) -> Readiness | Response:
    """Check whether the database and the broker answer. It needs no key, and takes two seconds at most.

    Requests within a second of each other get the same answer.
    """
    found = await parts.readiness.ask()
    wrong = [f"{part}: {says}" for part, says in found.items() if says != "ok"]
    if wrong:
        return problem_response("not_ready", "; ".join(wrong), request.url.path, headers={"Retry-After": "5"})
    return Readiness(**found)


@signed_in_router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "intff_predictions_total 42.0\n"}}},
        **documented("unauthorized", "rate_limited", "internal_error", "unavailable"),
    },
)
async def get_metrics(parts: PartsDep) -> Response:
    """Metrics for Prometheus. Once the service has keys, this needs one too: it counts the jobs of all owners."""
    page = await run_in_threadpool(parts.metrics.page)
    return Response(page, media_type=CONTENT_TYPE_LATEST)
