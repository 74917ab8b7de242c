"""Example responses for the documentation; `tests/service/test_app.py` checks them against their schemas."""

from __future__ import annotations

from typing import Any

from intff.presets import PRESETS
from intff.spec import read_spec
from service.schemas.jobs import SHORT

_SPEC = read_spec(SHORT["spec"]).model_dump(mode="json")
_EPOCH = {
    "epoch": 2,
    "seconds": 2.5,
    "loss": 0.41,
    "unit_losses": [0.22, 0.19],
    "unit_goodness_positive": [2.1, 2.4],
    "unit_goodness_negative": [0.6, 0.5],
    "validation_accuracy": 0.962,
    "learning_rate": 0.003,
    "samples_per_second": 22000.0,
}
JOB: dict[str, Any] = {
    "id": "job_06f2k4m8",
    "object": "job",
    "name": None,
    "status": "running",
    "is_terminal": False,
    "spec": _SPEC,
    "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:01Z",
    "finished_at": None,
    "progress": {"epoch": 3, "epochs": 30, "fraction": 0.08, "eta_seconds": 69.0},
    "latest_metrics": _EPOCH,
    "result": None,
    "attempt": 1,
    "error": None,
    "model_id": None,
    "metadata": {},
}
SUBMITTED: dict[str, Any] = {
    **JOB,
    "status": "queued",
    "started_at": None,
    "progress": {"epoch": 0, "epochs": 30, "fraction": 0.0, "eta_seconds": None},
    "latest_metrics": None,
    "attempt": 0,
}
CANCELLED = {**JOB, "status": "cancelled", "is_terminal": True, "finished_at": "2026-01-01T00:00:09Z"}
MODEL: dict[str, Any] = {
    "id": "mdl_06f2k4m8",
    "object": "model",
    "name": None,
    "job_id": JOB["id"],
    "created_at": "2026-01-01T00:01:20Z",
    "aliases": ["digits"],
    "labels": list("0123456789"),
    "image_shape": [1, 28, 28],
    "algorithm": "intff",
    "classifier": "goodness",
    "theta": 1.5,
    "units": 2,
    "parameters": 250_000,
    "result": {"test_accuracy": 0.98, "train_seconds": 75.2},
    "spec": _SPEC,
    "artifacts": [
        {
            "name": "model.onnx",
            "bytes": 1_000_000,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "url": "/v1/models/mdl_06f2k4m8/artifacts/model.onnx",
        }
    ],
}
_FAST = read_spec({"preset": "fast"}).model_dump(mode="json")

EXAMPLES: dict[str, Any] = {
    "submit_job": SUBMITTED,
    "list_jobs": {"data": [JOB], "has_more": False},
    "get_job": JOB,
    "get_job_metrics": {"data": [{**_EPOCH, "epoch": 1, "loss": 0.55, "validation_accuracy": 0.931}, _EPOCH]},
    "cancel_job": CANCELLED,
    "pause_job": JOB,
    "resume_job": JOB,
    "list_models": {"data": [MODEL], "has_more": False},
    "get_model": MODEL,
    "download_artifact": _SPEC,
    "set_alias": {"object": "alias", "alias": "digits", "model": MODEL["id"]},
    "list_presets": {"data": [{"name": "fast", "description": PRESETS["fast"][0], "spec": _FAST}]},
    "get_health": {"status": "ok"},
    "get_readiness": {"status": "ok", "database": "ok", "broker": "ok"},
}
"""The body of each operation's success, by its operation id."""
