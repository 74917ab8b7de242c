"""The stored files of a model, served only if they are the ones that were published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from service.errors import ModelCorrupt, Unavailable
from store.artifacts import Artifacts
from store.errors import ArtifactMissing, NotFound
from store.tables import Model

GRAPH = "model.onnx"
MANIFEST = "manifest.json"

MEDIA_TYPES = {"spec.json": "application/json", MANIFEST: "application/json"}
OTHER_MEDIA_TYPE = "application/octet-stream"

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class ModelFile:
    """One file of a model, about to be sent."""

    sha256: str
    size: int
    chunks: Iterator[bytes]


def open_file(artifacts: Artifacts, model: Model, name: str) -> ModelFile:
    """Open a file that the manifest names, or the manifest itself.

    It is read twice, for its hash and for the response, so that a 200 always delivers the published file.

    Raises:
        NotFound: the model has no such file.
        ModelCorrupt: it is missing, or not the file that was published.
    """
    if name == MANIFEST:
        return _manifest(artifacts, model)
    record = model.manifest["files"].get(name)
    if record is None:
        names = ", ".join([*model.manifest["files"], MANIFEST])
        msg = f"model {model.id!r} has no file {name!r}; it has {names}"
        raise NotFound(msg)
    opened = _open(artifacts, model, name)
    if _sha256(opened) != record["sha256"]:
        opened.close()
        msg = f"{name} of {model.id!r} is not the file that was published (its SHA-256 differs); it is not served"
        raise ModelCorrupt(msg)
    opened.seek(0)
    return ModelFile(record["sha256"], record["bytes"], _chunks(opened))


def read_graph(artifacts: Artifacts, model: Model) -> bytes:
    """The whole ONNX graph, verified.

    Raises:
        ModelCorrupt: it is missing, or not the file that was published.
    """
    with _open(artifacts, model, GRAPH) as opened:
        graph = opened.read()
    if hashlib.sha256(graph).hexdigest() != model.manifest["files"][GRAPH]["sha256"]:
        msg = f"{GRAPH} of {model.id!r} is not the file that was published (its SHA-256 differs); it is not served"
        raise ModelCorrupt(msg)
    return graph


def _manifest(artifacts: Artifacts, model: Model) -> ModelFile:
    """Open the manifest, which cannot contain its own hash, after comparing it with the copy in the database."""
    with _open(artifacts, model, MANIFEST) as opened:
        content = opened.read()
    try:
        matches = json.loads(content) == model.manifest
    except ValueError:
        matches = False
    if not matches:
        msg = f"{MANIFEST} of {model.id!r} is not the file that was published"
        raise ModelCorrupt(msg)
    return ModelFile(hashlib.sha256(content).hexdigest(), len(content), iter([content]))


def _open(artifacts: Artifacts, model: Model, name: str) -> BinaryIO:
    try:
        return artifacts.open(f"{model.prefix}/{name}")
    except ArtifactMissing as error:
        msg = f"{name} of {model.id!r} is missing from the artifact store"
        raise ModelCorrupt(msg) from error
    except OSError as error:
        msg = f"the artifact store cannot be reached: {error}"
        raise Unavailable(msg) from error


def _sha256(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := opened.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while chunk := opened.read(_CHUNK):
            yield chunk
