"""The files of a finished model: weights, a portable ONNX graph, the spec, and a manifest."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import safetensors.torch
import torch

from intff.folders import new_folder, sha256
from intff.graph import build_graph
from intff.networks import Network
from intff.progress import Result
from intff.spec import BP, TrainSpec


@dataclass(frozen=True)
class Manifest:
    """The contents of a model's `manifest.json`."""

    version: int
    files: dict[str, dict[str, Any]]
    """SHA-256 and size in bytes of each file, by name."""
    labels: list[str]
    image_shape: list[int]
    theta: float | None
    algorithm: str
    classifier: str
    units: int
    parameters: int
    result: dict[str, Any]
    build: dict[str, Any]


def export_model(folder: Path, spec: TrainSpec, network: Network, result: Result) -> Manifest:
    """Write `weights.safetensors`, `model.onnx`, `spec.json` and `manifest.json`, atomically.

    Args:
        folder: must not exist, or be empty.
        spec: of the run.
        network: the trained network; it is not modified.
        result: of the run, for the manifest.

    Returns:
        The manifest.

    Raises:
        FileExistsError: the folder exists and is not empty.
    """
    with new_folder(folder) as filling:
        weights = {name: weight.cpu().contiguous() for name, weight in network.state_dict().items()}
        safetensors.torch.save_file(weights, filling / "weights.safetensors")
        (filling / "model.onnx").write_bytes(onnx_bytes(spec, network))
        (filling / "spec.json").write_text(json.dumps(spec.model_dump(mode="json"), indent=1))
        algorithm = spec.algorithm
        manifest = Manifest(
            version=1,
            files={
                file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in sorted(filling.iterdir())
            },
            labels=list(spec.dataset.labels),
            image_shape=list(spec.dataset.image_shape),
            theta=None if isinstance(algorithm, BP) else algorithm.theta,
            algorithm=algorithm.kind,
            classifier="softmax" if isinstance(algorithm, BP) else algorithm.classifier,
            units=len(spec.architecture.units),
            parameters=result.parameters,
            result=asdict(result),
            build={
                "intff": version("intff"),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
            },
        )
        (filling / "manifest.json").write_text(json.dumps(asdict(manifest), indent=1))
    return manifest


def onnx_bytes(spec: TrainSpec, network: Network) -> bytes:
    """The network as a serialised ONNX model with a dynamic batch size.

    The input is `images`, float32 from 0 to 1, [batch, channels, height, width]. The outputs, if the model has
    them, are `goodness` [batch, labels], `unit_goodness` [batch, units, labels], `probability_positive`
    [batch, labels], and `probabilities` [batch, labels] of a softmax classifier.
    """
    algorithm = spec.algorithm
    theta = None if isinstance(algorithm, BP) else algorithm.theta
    softmax = isinstance(algorithm, BP) or algorithm.classifier == "softmax"
    model = build_graph(spec, network)
    facts = {
        "labels": json.dumps(spec.dataset.labels),
        "theta": json.dumps(theta),
        "algorithm": algorithm.kind,
        "classifier": "softmax" if softmax else "goodness",
    }
    onnx.helper.set_model_props(model, facts)
    return bytes(model.SerializeToString(deterministic=True))
