"""Figures of jobs: the paper's Figure 3 for any job, drawn from the epochs that have finished so far."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Response

from intff.plots import MOST_POINTS, Image, figure3
from service.dependencies import SIGNED_IN, JobIdDep, OwnerDep, PartsDep
from service.parts import Parts
from service.problems import documented
from store import queries, tables
from store.statuses import JobStatus

_MEDIA_TYPES: dict[Image, str] = {"svg": "image/svg+xml", "png": "image/png"}

router = APIRouter(
    prefix="/v1/jobs",
    tags=["jobs"],
    **SIGNED_IN,
    responses=documented("unauthorized", "rate_limited", "internal_error", "unavailable"),
)


def _answers(image: Image) -> dict[int | str, dict[str, Any]]:
    figure = {"type": "string"} if image == "svg" else {"type": "string", "format": "binary"}
    described = {"description": "The figure.", "content": {_MEDIA_TYPES[image]: {"schema": figure}}}
    return {200: described, **documented("not_found")}


@router.get("/{job_id}/plot.svg", operation_id="draw_job_svg", response_class=Response, responses=_answers("svg"))
async def draw_job_svg(job_id: JobIdDep, owner: OwnerDep, parts: PartsDep) -> Response:
    """Draw each hidden unit's loss and goodness, and the validation accuracy, over the epochs so far.

    Before the first epoch has finished, the figure says so. A long job is sampled down to 500 epochs.
    """
    return await _answer(parts, job_id, owner, "svg")


@router.get("/{job_id}/plot.png", operation_id="draw_job_png", response_class=Response, responses=_answers("png"))
async def draw_job_png(job_id: JobIdDep, owner: OwnerDep, parts: PartsDep) -> Response:
    """Draw the same figure as PNG, at 200 dots per inch."""
    return await _answer(parts, job_id, owner, "png")


async def _answer(parts: Parts, job_id: str, owner: str, image: Image) -> Response:
    figure = await parts.drawings.run(partial(_draw, parts, job_id, owner, image))
    headers = {"Content-Disposition": f'inline; filename="{job_id}.{image}"'}
    return Response(figure, media_type=_MEDIA_TYPES[image], headers=headers)


def _draw(parts: Parts, job_id: str, owner: str, image: Image) -> bytes:
    with parts.read_sessions() as session:
        row = queries.get_job(session, job_id, owner=owner)
        metrics = queries.sample_metrics(session, job_id, owner=owner, most=MOST_POINTS)
    # Draw without holding the database connection, which others may need meanwhile.
    return figure3(metrics, spec=row.spec, name=row.name, note=_note(row), image=image)


def _note(row: tables.Job) -> str:
    """The job's state in a few words."""
    match JobStatus(row.status):
        case JobStatus.SUCCEEDED if row.result:
            return f"succeeded, test accuracy {100 * row.result['test_accuracy']:.2f} %"
        case JobStatus.FAILED:
            return f"failed: {row.error_code}"
        case JobStatus.RUNNING | JobStatus.PAUSED if row.progress:
            return f"{row.status}, epoch {row.progress['epoch']} of {row.progress['epochs']}"
        case status:
            return status.value
