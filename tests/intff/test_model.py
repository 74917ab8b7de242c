import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intff
from intff import Model, TrainSpec, datasets, load_model, train
from intff.build import build_network
from intff.errors import CheckpointError, ImageError
from intff.inference import score
from intff.layers import ACTIVATIONS
from intff.networks import GoodnessNetwork
from intff.progress import Event, Finished, Started
from intff.spec import Digits

SpecOf = Callable[..., TrainSpec]


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def _some() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return datasets.load(Digits()).test_images[:5]


def test_training_takes_plain_fields_and_tells_what_happens() -> None:
    events: list[Event] = []
    fields = {"dataset": "digits", "architecture": "64,(8)", "training": {"epochs": 1}}
    trained = train(fields, on_event=events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert trained.result == events[-1].result
    assert trained.labels == tuple("0123456789")


@pytest.mark.parametrize("architecture", ["64,(8)", "64,(6C3,P2),(11)"])
def test_training_in_a_program_that_switched_gradients_off(architecture: str, digits_spec: SpecOf) -> None:
    spec = digits_spec(architecture, epochs=1)
    with torch.no_grad():
        trained = train(spec)
    for name, weight in train(spec).network.state_dict().items():
        assert torch.equal(trained.network.state_dict()[name], weight), name


def test_a_saved_model_comes_back_the_same(model: Model, model_folder: Path) -> None:
    loaded = load_model(str(model_folder))
    assert loaded.spec == model.spec
    assert loaded.result == model.result
    assert loaded.predict(_some()) == model.predict(_some())


@pytest.fixture(scope="module")
def convolutional(digits_spec: SpecOf) -> Model:
    """Batch normalisation, pooling and attention; labels as groups; units that count as fits best."""
    algorithm = {"unit_weights": "calibrated", "classifier": "softmax"}
    return train(digits_spec("64,(12C3,P2),(12C2,A4),(11)", algorithm, epochs=2, learning_rate=0.01))


def test_a_saved_convolutional_model_comes_back_the_same(convolutional: Model, tmp_path: Path) -> None:
    convolutional.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.spec == convolutional.spec
    assert loaded.result == convolutional.result
    assert loaded.predict(_some()) == convolutional.predict(_some())


def test_its_units_count_as_was_fitted(convolutional: Model) -> None:
    network = convolutional.network
    assert isinstance(network, GoodnessNetwork)
    weights = network.unit_weights.tolist()
    assert sum(weights) == pytest.approx(3, rel=1e-5)
    assert weights != [1, 1, 1]
    for prediction in convolutional.predict(_some()):
        assert prediction.goodness is not None
        assert prediction.unit_goodness is not None
        assert prediction.probabilities is not None
        summed = [
            sum(weight * unit for weight, unit in zip(weights, units, strict=True))
            for units in zip(*prediction.unit_goodness, strict=True)
        ]
        assert summed == pytest.approx(prediction.goodness, rel=1e-4)
        assert prediction.label == str(int(np.argmax(prediction.probabilities)))


def test_its_network_goes_by_what_it_saw_in_training(convolutional: Model, tmp_path: Path) -> None:
    """Called as any module: neither do the images of a batch count for each other, nor is anything learnt from them."""
    convolutional.save(tmp_path / "model")
    images = torch.rand((4, 1, 8, 8))
    for each in (convolutional, load_model(tmp_path / "model")):
        before = {name: value.clone() for name, value in each.network.state_dict().items()}
        with torch.no_grad():
            together, alone = each.network(images).goodness, each.network(images[:1]).goodness
        torch.testing.assert_close(together[:1], alone)
        for name, value in each.network.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_what_else_is_predicted_changes_no_prediction(convolutional: Model) -> None:
    """Batch normalisation goes by what it has seen in training, not by the images at hand."""
    before = {name: weight.clone() for name, weight in convolutional.network.state_dict().items()}
    together = convolutional.predict(_some())
    for image, wanted in zip(_some(), together, strict=True):
        alone = convolutional.predict(image[None])[0]
        assert alone.goodness == pytest.approx(wanted.goodness, rel=1e-4, abs=1e-5)
        assert alone.probabilities == pytest.approx(wanted.probabilities, rel=1e-4, abs=1e-5)
    assert all(bool((weight == before[name]).all()) for name, weight in convolutional.network.state_dict().items())


def test_every_way_to_write_the_same_image_is_predicted_the_same(model: Model) -> None:
    images = _some()
    wanted = model.predict(images)
    assert len(wanted) == 5
    whole: list[np.ndarray[Any, Any]] = [images[:, 0], images.reshape(5, 64), images.astype(np.int64)]
    assert all(model.predict(same) == wanted for same in whole)
    floats: list[np.ndarray[Any, Any]] = [images.astype(np.float32) / 255, images / 255]
    for same in floats:
        for ours, theirs in zip(model.predict(same), wanted, strict=True):
            assert ours.goodness == pytest.approx(theirs.goodness, rel=1e-5)


def test_a_tensor_that_wants_a_gradient_is_as_good_as_an_array(model: Model) -> None:
    images = torch.tensor(_some() / 255).requires_grad_()
    assert [each.label for each in model.predict(images)] == [each.label for each in model.predict(_some())]


def test_evaluating_counts_what_is_right(model: Model) -> None:
    data = datasets.load(Digits())
    assert model.evaluate(data.test_images, data.test_labels) == pytest.approx(model.result.test_accuracy, abs=1e-9)
    found = [int(each.label) for each in model.predict(data.test_images[:4])]
    assert model.evaluate(data.test_images[:4], np.array([*found[:3], (found[3] + 1) % 10])) == 0.75
    with pytest.raises(ValueError, match="got 4 images and 3 labels"):
        model.evaluate(data.test_images[:4], np.array(found[:3]))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_can_be_pickled(activation: str, digits_spec: SpecOf) -> None:
    """As a program does that trains in several processes."""
    network = build_network(digits_spec({"units": [[12]], "activation": activation}))
    again = pickle.loads(pickle.dumps(network))
    images = torch.rand(3, 1, 8, 8)
    expected, found = score(network, images).goodness, score(again, images).goodness
    assert expected is not None
    assert found is not None
    assert torch.equal(found, expected)


def test_a_prediction_adds_up(model: Model) -> None:
    for prediction in model.predict(_some()):
        assert prediction.goodness is not None
        assert prediction.unit_goodness is not None
        assert prediction.probability_positive is not None
        assert prediction.probabilities is None
        assert [sum(units) for units in zip(*prediction.unit_goodness, strict=True)] == pytest.approx(
            prediction.goodness, rel=1e-5
        )
        assert prediction.label == str(int(np.argmax(prediction.goodness)))
        best, second = sorted(prediction.goodness, reverse=True)[:2]
        assert prediction.margin == pytest.approx(best - second, abs=1e-6)
        wanted = [1 / (1 + np.exp(1.5 - goodness)) for goodness in prediction.goodness]
        assert prediction.probability_positive == pytest.approx(wanted, rel=1e-5)


def test_backpropagation_predicts_probabilities_alone(digits_spec: SpecOf) -> None:
    trained = train(digits_spec("64,8,10", "bp", epochs=1))
    for prediction in trained.predict(_some()):
        assert prediction.goodness is None
        assert prediction.unit_goodness is None
        assert prediction.probability_positive is None
        assert prediction.probabilities is not None
        assert sum(prediction.probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((0, 1, 8, 8)), r"shape \[1, 8, 8\].*got \[0, 1, 8, 8\]"),
        (np.zeros((8, 8)), r"got \[8, 8\]"),
        (np.zeros(64), r"got \[64\]"),
        (np.zeros((2, 28, 28)), r"got \[2, 28, 28\]"),
        (np.zeros((5, 16, 4)), r"got \[5, 16, 4\]"),
        (np.zeros((5, 8, 8, 1)), r"got \[5, 8, 8, 1\]"),
        (np.full((1, 64), np.nan), "from 0 to 255 or floats from 0 to 1; got float64 from nan"),
        (np.full((1, 64), 1.5), "floats from 0 to 1; got float64 from 1.5 to 1.5"),
        (np.full((1, 64), 255.0), "floats from 0 to 1; got float64 from 255.0 to 255.0"),
        (np.full((1, 64), 256), "integers from 0 to 255.*got int64 from 256 to 256"),
        (np.full((1, 64), -1), "got int64 from -1 to -1"),
        (np.full((1, 64), "x"), "integers from 0 to 255"),
        (np.full((1, 64), None), "integers from 0 to 255"),
    ],
)
def test_what_is_no_image_of_the_models_is_refused(model: Model, images: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        model.predict(images)
    assert caught.value.field == "images"


def test_a_manifest_of_another_version_is_refused(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    manifest = json.loads((model_folder / "manifest.json").read_text())
    (tmp_path / "model" / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(CheckpointError, match="version 2; this version of intff reads version 1"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["manifest.json", "spec.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_a_damaged_model_is_refused(copy: Path, name: str, damage: str) -> None:
    whole = (copy / name).read_bytes()
    if damage == "missing":
        (copy / name).unlink()
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        (copy / name).write_bytes({"empty": b"", "cut": whole[:-9], "flipped": flipped}[damage])
    with pytest.raises(CheckpointError, match=r"does not contain a readable model|is damaged"):
        load_model(copy)


def test_a_manifest_that_covers_nothing_covers_no_exchange(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["files"] = {}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json lacks 'spec\.json'"):
        load_model(copy)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "manifest.json").write_text("[]")
    for place in ("nothing", "file", "list"):
        with pytest.raises(CheckpointError, match="does not contain a readable model"):
            load_model(tmp_path / place)


def test_a_model_is_not_saved_over_another(model: Model, copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        model.save(copy)
    assert (copy / "manifest.json").read_bytes() == before


def test_the_package_offers_its_names_and_no_others() -> None:
    assert all(hasattr(intff, name) for name in intff.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        intff.nonsense  # noqa: B018 -- the access itself is tested
