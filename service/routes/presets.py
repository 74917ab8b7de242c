"""The presets: complete training specs by name."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter

from intff.presets import PRESETS
from intff.spec import read_spec
from service.dependencies import SIGNED_IN
from service.problems import documented
from service.schemas.models import Preset, PresetList

router = APIRouter(
    prefix="/v1/presets",
    tags=["presets"],
    **SIGNED_IN,
    responses=documented("unauthorized", "rate_limited", "internal_error", "unavailable"),
)


@router.get("", operation_id="list_presets")
async def list_presets() -> PresetList:
    """List the presets; `"preset": name` in a spec fills in everything that the spec leaves out."""
    return _presets()


@cache
def _presets() -> PresetList:
    return PresetList(
        data=[
            Preset(name=name, description=description, spec=read_spec({"preset": name}).model_dump(mode="json"))
            for name, (description, _) in PRESETS.items()
        ]
    )
