"""What the service's tests start from: an application on each kind of database, and models that are real ONNX."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI
from onnx import TensorProto, helper
from starlette.types import ASGIApp

from intff.spec import read_spec
from service.app import create_app
from service.connections import Connection
from store import queries, tables
from store.artifacts import Artifacts
from store.database import Sessions, connect, sessions
from store.settings import Settings
from store.tables import NO_OWNER

Serve = Callable[[ASGIApp], AbstractContextManager[httpx.Client]]
MakeModel = Callable[..., str]
MakeJob = Callable[..., tables.Job]


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Give the root logger back to pytest after an application has set up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def settings(database_url: str, _valkey: str, tmp_path: Path) -> Settings:
    """The embedded broker with each kind of database; the reconciler sweeps once, at the start."""
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        broker_url=_valkey,
        artifacts_url=str(tmp_path / "artifacts"),
        sweep_seconds=3600,
    )


@contextmanager
def serving(app: ASGIApp) -> Iterator[httpx.Client]:
    """A real server in a thread, and a client of it."""
    config = uvicorn.Config(app, port=0, http=Connection, log_config=None, ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Serve:
    """Run an application on a port of its own, as a context manager that gives a client of it."""
    return serving


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture
def db(database_url: str) -> Iterator[Sessions]:
    """Sessions of another process, as it were, on the application's database."""
    engine = connect(database_url)
    yield sessions(engine)
    engine.dispose()


@pytest.fixture
def make_job(db: Sessions) -> MakeJob:
    """Submit a job without the application."""

    def make(owner: str = NO_OWNER, **fields: Any) -> tables.Job:
        spec = fields.pop("spec", {"dataset": "digits", "architecture": "64,(8),(4)"})
        with db.begin() as session:
            return queries.submit(session, read_spec(spec), owner=owner, **fields)

    return make


@pytest.fixture
def make_model(db: Sessions, settings: Settings, make_job: MakeJob, tmp_path: Path) -> MakeModel:
    """Publish a model of 2x2 pixels and three labels, the way a worker does, and tell its id.

    Its two hidden units score label k by the k-th pixel, once and twice.
    """

    def make(classifier: str = "goodness", algorithm: str = "intff", owner: str = NO_OWNER, **job: Any) -> str:
        submitted = make_job(owner, **job)
        folder = tmp_path / submitted.id
        folder.mkdir()
        (folder / "model.onnx").write_bytes(_graph(classifier, algorithm))
        (folder / "weights.safetensors").write_bytes(b"weights")
        (folder / "spec.json").write_text("{}")
        manifest = {
            "version": 1,
            "files": {
                file.name: {
                    "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                    "bytes": file.stat().st_size,
                }
                for file in sorted(folder.iterdir())
            },
            "labels": ["a", "b", "c"],
            "image_shape": [1, 2, 2],
            "theta": None if algorithm == "bp" else 1.5,
            "algorithm": algorithm,
            "classifier": classifier,
            "units": 2,
            "parameters": 24,
            "result": {"test_accuracy": 0.5, "train_seconds": 1.5},
            "build": {},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
        prefix = f"jobs/{submitted.id}/1/model"
        Artifacts(settings.artifacts_url).put_folder(folder, prefix)
        with db.begin() as session:
            claim = queries.claim(session, submitted.id, worker="w", lease_seconds=60, max_attempts=3)
            assert claim is not None
            result = manifest["result"]
            assert isinstance(result, dict)
            model = queries.succeed(session, claim, manifest=manifest, prefix=prefix, result=result)
            assert model is not None
            return model.id

    return make


def _graph(classifier: str, algorithm: str) -> bytes:
    once = np.eye(4, 3, dtype=np.float32)  # the first three pixels are the scores of the three labels
    weights = np.concatenate([once, 2 * once], axis=1)  # [pixels, units * labels]
    nodes = [
        helper.make_node("Flatten", ["images"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["scores"]),
        helper.make_node("Reshape", ["scores", "by_unit"], ["unit_goodness"]),
        helper.make_node("ReduceSum", ["unit_goodness", "units"], ["goodness"], keepdims=0),
        helper.make_node("Sub", ["goodness", "theta"], ["over"]),
        helper.make_node("Sigmoid", ["over"], ["probability_positive"]),
        helper.make_node("Softmax", ["goodness"], ["probabilities"]),
    ]
    shapes: dict[str, list[Any]] = {
        "goodness": ["batch", 3],
        "unit_goodness": ["batch", 2, 3],
        "probability_positive": ["batch", 3],
        "probabilities": ["batch", 3],
    }
    names = [name for name in shapes if name != "probabilities" and algorithm != "bp"]
    names += ["probabilities"] if classifier == "softmax" else []
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array([-1, 2, 3]), "by_unit"),
            onnx.numpy_helper.from_array(np.array([1]), "units"),
            onnx.numpy_helper.from_array(np.array(1.5, np.float32), "theta"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
