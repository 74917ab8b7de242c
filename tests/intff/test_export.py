"""The model's files, and above all that ONNX Runtime says of an image what torch says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from intff import Model, TrainSpec, load_model, read_spec
from intff.build import build_network
from intff.export import onnx_bytes
from intff.folders import sha256
from intff.inference import score
from intff.networks import Network
from intff.seeds import seeded

INTFF = {"kind": "intff", "theta": 2.0, "label_encoding": {"value": 1.5}}
MEAN, SUM = {"goodness": "mean_square"}, {"goodness": "sum_square"}
L2, RMS = {"normalization": "l2"}, {"normalization": "rms"}
SOFTMAX = {"classifier": "softmax"}

LAYER = {"normalization": "layer"}
GROUPS, EMBEDDING = {"label_encoding": "groups"}, {"label_encoding": "embedding"}
DENSE, CONV = "64,(12,17),(15)", "64,(12C3,P2),(13C(3,2)/2,11C2v),(14)"
ATTENTION = "64,(12C2/2,A4),(A3,15C1)"

# Every option with every other that it touches, and each architecture's shape: one unit and several,
# of one layer and several, of one neuron, the paper's own; ff and bp over theirs.
CASES: list[tuple[str, str, Any]] = [
    ("digits", "64,(12,7),(5)", {**INTFF, **MEAN, **L2}),
    ("digits", "64,(12,7),(5)", {**INTFF, **MEAN, **RMS}),
    ("digits", "64,(9)", {**INTFF, **SUM, **L2}),
    ("digits", "64,(1),(1)", {**INTFF, **SUM, **RMS}),
    ("digits", "64,(8,6),(5,4),(3),10", {**INTFF, **MEAN, **L2}),
    ("digits", "64,(12,7),(5)", {**INTFF, **MEAN, **RMS, **SOFTMAX}),
    ("digits", "64,(9),10", {**INTFF, **SUM, **L2}),
    ("digits", "64,(12,7),(5),10", {**INTFF, **SUM, **RMS}),
    ("digits", "64,12,7,10", {"kind": "ff", **SUM, **L2}),
    ("digits", "64,12,7", {"kind": "ff", **MEAN, **RMS, **SOFTMAX}),
    *[
        ("digits", architecture, {**INTFF, **encoding, **normalization, **goodness, **SOFTMAX})
        for architecture in (DENSE, CONV, ATTENTION)
        for encoding in ({}, GROUPS, EMBEDDING)
        for normalization in (L2, RMS, LAYER)
        for goodness in (MEAN, SUM)
        if not (architecture == ATTENTION and encoding == EMBEDDING)  # which needs a dense or convolutional first layer
    ],
    ("digits", "64,(12C2/2,A4),(15C1,A3)", {**INTFF, **EMBEDDING, **SOFTMAX}),
    ("digits", DENSE, {**INTFF, **GROUPS, "unit_weights": [0.25, 3.0]}),
    ("digits", CONV, {"kind": "ff", **GROUPS}),
    ("digits", "64,12,7,10", "bp"),
    ("digits", "64,1", "bp"),
    ("digits", CONV, "bp"),
    ("digits", CONV, {"kind": "bp", "normalization": "none"}),
    ("digits", "64,(12C3p,P2),(13C2)", {**INTFF, **GROUPS}),
    ("digits", ATTENTION, "bp"),
    ("mnist", "784,(200,200,200),(50,50)", "intff"),
    ("mnist", "784,(32C3,P2),(64C3,P2)", "intff"),
]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("algorithm", [{**INTFF}, {**INTFF, **EMBEDDING}, "bp"])
def test_onnx_and_torch_agree_on_every_activation(activation: str, algorithm: Any) -> None:
    units = [[{"kind": "conv", "channels": 12}], [9, 11]]
    architecture = {"units": units, "activation": activation}
    test_onnx_and_torch_agree("digits", architecture, algorithm)


def _random_network(spec: TrainSpec) -> Network:
    """Random biases too, which are zero when a run begins."""
    network, generator = build_network(spec), seeded(1, "test")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight.uniform_(-0.3, 0.3, generator=generator)
        for name, buffer in network.named_buffers():  # as after some training
            if name.endswith(("mean", "variance")):
                buffer.uniform_(0.2, 1.3, generator=generator)
    return network


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "architecture", "algorithm"), CASES)
def test_onnx_and_torch_agree(dataset: str, architecture: Any, algorithm: Any) -> None:
    spec = read_spec({"dataset": dataset, "architecture": architecture, "algorithm": algorithm})
    network = _random_network(spec)
    session = onnxruntime.InferenceSession(onnx_bytes(spec, network), providers=["CPUExecutionProvider"])
    theta = getattr(spec.algorithm, "theta", None)
    expected_names = [] if theta is None else ["goodness", "unit_goodness", "probability_positive"]
    is_softmax = theta is None or getattr(spec.algorithm, "classifier", "") == "softmax"
    expected_names += ["probabilities"] if is_softmax else []
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["batch", *spec.dataset.image_shape])
    names = [output.name for output in session.get_outputs()]
    assert names == expected_names
    assert {output.type for output in session.get_outputs()} == {"tensor(float)"}
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == list(spec.dataset.labels)
    assert json.loads(facts["theta"]) == theta
    assert facts["algorithm"] == spec.algorithm.kind
    assert facts["classifier"] == ("softmax" if is_softmax else "goodness")
    for batch in (1, 3, 17):
        images = torch.rand((batch, *spec.dataset.image_shape), generator=seeded(batch, "images"))
        images[-1] = 0  # a black image, whose norm is that of the label alone
        outputs = dict(zip(names, session.run(None, {"images": images.numpy()}), strict=True))
        for name, wanted in _by_torch(network, images, theta).items():
            assert outputs[name].shape == wanted.shape
            np.testing.assert_allclose(outputs[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name)
        deciding = outputs["probabilities" if is_softmax else "goodness"]
        assert deciding.argmax(axis=1).tolist() == score(network, images).ranking.argmax(dim=1).tolist()


def _by_torch(network: Network, images: torch.Tensor, theta: float | None) -> dict[str, Any]:
    scores = score(network, images)
    wanted: dict[str, Any] = {}
    if scores.unit_goodness is not None and scores.goodness is not None and theta is not None:
        wanted["goodness"] = scores.goodness.numpy()
        wanted["unit_goodness"] = scores.unit_goodness.numpy()
        wanted["probability_positive"] = 1 / (1 + np.exp(theta - wanted["goodness"]))
    if scores.logits is not None:
        powers = np.exp(scores.logits.numpy() - scores.logits.numpy().max(axis=1, keepdims=True))
        wanted["probabilities"] = powers / powers.sum(axis=1, keepdims=True)
    return wanted


def test_the_manifest_describes_every_file(model: Model, model_folder: Path) -> None:
    manifest = json.loads((model_folder / "manifest.json").read_bytes())
    build, result = manifest.pop("build"), manifest.pop("result")
    files = {name: model_folder / name for name in ("model.onnx", "spec.json", "weights.safetensors")}
    assert manifest == {
        "version": 1,
        "files": {name: {"sha256": sha256(file), "bytes": file.stat().st_size} for name, file in files.items()},
        "labels": list("0123456789"),
        "image_shape": [1, 8, 8],
        "theta": 1.5,
        "algorithm": "intff",
        "classifier": "goodness",
        "units": 2,
        "parameters": 64 * 12 + 12 + 12 * 8 + 8 + 8 * 6 + 6,
    }
    assert sorted(path.name for path in model_folder.iterdir()) == sorted([*files, "manifest.json"])
    assert result["test_accuracy"] == model.result.test_accuracy
    assert build["torch"] == torch.__version__
    assert read_spec(json.loads((model_folder / "spec.json").read_bytes())) == model.spec


def test_the_graph_is_whole_valid_and_tells_nothing_of_the_machine(model_folder: Path) -> None:
    graph = onnx.load(model_folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    data = (model_folder / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b'File "' not in data


def test_exporting_twice_gives_the_same_bytes(model: Model, model_folder: Path, tmp_path: Path) -> None:
    load_model(model_folder).save(tmp_path / "again")
    assert not model.network.training
    for name in ("weights.safetensors", "model.onnx", "spec.json", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (model_folder / name).read_bytes()
