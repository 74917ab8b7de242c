"""Nothing is ever unpickled or evaluated: not by our code, not from a file, not from the queue."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import re
import shutil
import subprocess
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kombu import Connection
from packaging.requirements import Requirement
from packaging.version import Version

from intff import load_model, read_spec
from intff.datasets import load
from intff.errors import CheckpointError, DatasetError, IntffError
from intff.images import from_file
from intff.progress import EpochEnd
from intff.trainer import Trainer
from store.queue import TASK
from store.tables import Model
from tests.faults.attacks import IMAGE, SPEC, Target, attacked

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
ROOMS = ("intff", "store", "service", "worker", "scripts", "benchmarks")

FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "numpy.load", "np.load"}
FORBIDDEN_ARGUMENTS = {("allow_pickle", True), ("shell", True), ("weights_only", False), ("trust_remote_code", True)}


def test_our_own_modules_import_and_call_nothing_that_runs_what_it_reads() -> None:
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    assert len(files) > 100
    found = [f"{file.relative_to(ROOT)}: {what}" for file in files for what in dangers(file.read_text())]
    assert found == []


def test_the_search_would_find_them() -> None:
    lines = [
        "import pickle as p",
        "from joblib import load",
        "torch.load(f)",
        "eval('1')",
        "x.load(f, allow_pickle=True)",
    ]
    assert list(dangers("\n".join(lines))) == [
        "import pickle",
        "import joblib",
        "torch.load()",
        "eval()",
        "allow_pickle=True",
    ]


def dangers(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names if each.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FORBIDDEN_MODULES:
            yield f"import {node.module}"
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in FORBIDDEN_CALLS:
                yield f"{ast.unparse(node.func)}()"
            for given in node.keywords:
                if isinstance(given.value, ast.Constant) and (given.arg, given.value.value) in FORBIDDEN_ARGUMENTS:
                    yield f"{given.arg}={given.value.value!r}"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return subprocess.getoutput, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model's folder, to copy."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    trainer = Trainer(read_spec(SPEC))
    list(trainer.run())
    trainer.export_model(folder)
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    canary = tmp_path / "canary"
    for data in malice(canary).values():  # the bombs are real ones
        if not data.startswith(b"PK"):
            pickle.loads(data)
            assert canary.exists()
            canary.unlink()
    yield canary
    assert not canary.exists()


def malice(canary: Path) -> dict[str, bytes]:
    """A bare pickle, one inside of a torch archive, and the older torch form."""
    bare = pickle.dumps(Bomb(canary))
    archive = canary.with_name("bomb.pt")
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("archive/data.pkl", bare)
        written.writestr("archive/version", "3\n")
    return {"pickle": bare, "pt": archive.read_bytes(), "protocol 0": pickle.dumps(Bomb(canary), protocol=0)}


@pytest.mark.parametrize("form", ["pickle", "pt", "protocol 0"])
def test_a_model_of_pickles_is_refused_even_if_its_manifest_names_them(
    tmp_path: Path, trained: Path, canary: Path, form: str
) -> None:
    data = malice(canary)[form]
    for name in ("weights.safetensors", "model.onnx", "spec.json"):
        folder = tmp_path / f"model-{name}"
        shutil.copytree(trained, folder)
        (folder / name).write_bytes(data)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        if name != "model.onnx":  # which the library does not read; the service does, below
            with pytest.raises(IntffError):
                load_model(folder)
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(IntffError):
        load_model(folder)


@pytest.mark.parametrize("form", ["pickle", "pt", "protocol 0"])
def test_a_checkpoint_of_pickles_is_refused_even_if_its_hash_is_right(tmp_path: Path, canary: Path, form: str) -> None:
    data = malice(canary)[form]
    spec = read_spec({**SPEC, "training": {"epochs": 2, "device": "cpu"}})
    trainer = Trainer(spec)
    for event in trainer.run():
        if isinstance(event, EpochEnd):
            trainer.save_checkpoint(tmp_path / "checkpoint")
            break
    facts = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())
    (tmp_path / "checkpoint" / "state.safetensors").write_bytes(data)
    facts["tensors_sha256"] = hashlib.sha256(data).hexdigest()
    del facts["sha256"]
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError):
        Trainer(spec, resume_from=tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "checkpoint.json").write_bytes(data)
    with pytest.raises(CheckpointError):
        Trainer(spec, resume_from=tmp_path / "checkpoint")


@pytest.mark.parametrize("form", ["pickle", "pt", "protocol 0"])
def test_a_pickle_is_no_data_set_and_no_image(tmp_path: Path, canary: Path, form: str) -> None:
    data = malice(canary)[form]
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(data)
            (folder / f"{part}-{kind}-ubyte").write_bytes(data)
    with pytest.raises(DatasetError):
        load(read_spec({"dataset": "mnist"}).dataset, data_dir=tmp_path)
    with pytest.raises(IntffError):
        from_file(data)


def test_a_service_refuses_a_graph_of_pickles_that_its_database_names(tmp_path: Path, canary: Path) -> None:
    with attacked(tmp_path / "api") as target:
        _, model = target.publish()
        graph = next((target.folder / "artifacts").rglob("model.onnx"))
        for data in malice(canary).values():
            graph.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            with target.sessions.begin() as session:
                row = session.get_one(Model, model)
                files = {**row.manifest["files"], "model.onnx": {"sha256": digest, "bytes": len(data)}}
                row.manifest = {**row.manifest, "files": files}
            answer = httpx.post(f"{target.url}/v1/models/{model}/predict", json={"images": [IMAGE]}, timeout=30)
            assert (answer.status_code, answer.json()["code"]) == (503, "model_corrupt")
            for body in (data, json.dumps({"images": [data.hex()]}).encode()):
                for media_type in ("application/json", "application/octet-stream", "image/png", "application/x-pickle"):
                    headers = {"Content-Type": media_type}
                    url = f"{target.url}/v1/models/{model}/predict"
                    assert httpx.post(url, content=body, headers=headers, timeout=30).status_code in {415, 422, 503}


def test_a_pickled_message_is_refused_and_the_next_job_runs(tmp_path: Path, canary: Path) -> None:
    with attacked(tmp_path / "api") as target:
        target.start_worker("worker")
        poison(target, canary)
        answer = httpx.post(f"{target.url}/v1/jobs", json={"spec": SPEC}, timeout=30)
        job = f"{target.url}/v1/jobs/{answer.json()['id']}"
        deadline = time.monotonic() + 90
        while not (now := httpx.get(job).json())["is_terminal"]:
            assert time.monotonic() < deadline, (target.folder / "worker.log").read_text()[-3000:]
            time.sleep(0.2)
        assert now["status"] == "succeeded"
        assert now["attempt"] == 1
        log = (target.folder / "worker.log").read_text()
        assert re.search(r"ContentDisallowed|Refusing to deserialize", log)
        assert not canary.exists()


def poison(target: Target, canary: Path) -> None:
    """Messages that no honest sender makes, each to the front of the queue."""
    body: tuple[Any, ...] = ((Bomb(canary),), {}, {})
    headers = {
        "task": TASK,
        "id": "00000000-0000-0000-0000-000000000000",
        "lang": "py",
        "argsrepr": "",
        "kwargsrepr": "",
    }
    with Connection(target.broker.url) as connection, connection.Producer() as producer:
        send: dict[str, Any] = {"exchange": "", "routing_key": "cpu", "priority": 0, "headers": headers}
        producer.publish(body, serializer="pickle", **send)
        producer.publish(pickle.dumps(body), content_type="application/json", content_encoding="binary", **send)
        producer.publish(pickle.dumps(body), content_type="application/x-python-serialize", **send)
        producer.publish(b"!!python/object/apply:os.system ['true']", content_type="application/x-yaml", **send)
        for arguments in ([["no", "id"]], [], [1], ["'; DROP TABLE jobs; --"], ["x" * 100_000]):
            producer.publish([arguments, {}, {}], serializer="json", **send)
        producer.publish([[], {}, {}], serializer="json", **{**send, "headers": {**headers, "task": "os.system"}})
        producer.publish({"not": "a task"}, serializer="json", exchange="", routing_key="cpu", priority=0)


FLOORS = {
    # Each is the first version without a hole that was known when this was written, as far as it is of use here.
    "pillow": "11.3.0",
    "python-multipart": "0.0.22",
    "starlette": "0.49.1",
    "torch": "2.6.0",
    "safetensors": "0.4.2",
    "onnx": "1.19.1",
    "celery": "5.2.2",
    "redis": "4.5.5",
    "uvicorn": "0.11.7",
    "sqlalchemy": "1.3.0",
    "pydantic": "2.4.0",
    "alembic": "1.17",
}


def test_every_dependency_has_a_floor_and_it_is_above_known_holes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        each
        for name in ("train", "store", "service", "worker", "s3")
        for each in project["optional-dependencies"][name]
    ]
    named = {}
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if requirement.name == "intff":
            continue
        floors = [each.version for each in requirement.specifier if each.operator == ">="]
        assert floors, f"{requirement.name} has no floor"
        named[requirement.name] = Version(floors[0])
    for name, floor in FLOORS.items():
        assert named[name] >= Version(floor), name
