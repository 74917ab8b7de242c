import pytest
import torch

from intff.build import build_network, build_objective, choose_device, draw_negatives
from intff.errors import DeviceUnavailable
from intff.goodness import sum_square
from intff.labels import Overlay
from intff.losses import softplus_mean
from intff.networks import BackpropNetwork, GoodnessNetwork
from intff.normalization import l2
from intff.objectives import LocalObjective
from intff.seeds import seeded
from intff.spec import read_spec


def test_a_spec_becomes_units_of_its_widths_and_choices() -> None:
    algorithm = {
        "goodness": "sum_square",
        "normalization": "l2",
        "loss": "softplus",
        "theta": 2.5,
        "label_encoding": {"value": 3.0},
    }
    spec = read_spec({"dataset": "digits", "architecture": "64,(20,10),(5)", "algorithm": algorithm})
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    shapes = [[list(layer.state_dict()["weight"].shape) for layer in unit.layers] for unit in network.units]
    assert shapes == [[[20, 64], [10, 20]], [[5, 10]]]
    assert network.encoding == Overlay(10, 3.0)
    assert network.goodness is sum_square
    assert network.units[0].normalization is l2
    assert network.head is None
    objective = build_objective(spec, network)
    assert isinstance(objective, LocalObjective)
    assert objective.loss is softplus_mean
    assert objective.theta == 2.5


def test_a_softmax_layer_takes_every_units_activations() -> None:
    network = build_network(read_spec({"dataset": "digits", "architecture": "64,(20,10),(5),10"}))
    assert isinstance(network, GoodnessNetwork)
    assert network.head is not None
    assert network.head.weight.shape == (10, 15)


def test_backpropagation_has_an_output_layer_of_the_classes() -> None:
    network = build_network(read_spec({"dataset": "digits", "architecture": "64,20,5", "algorithm": "bp"}))
    assert isinstance(network, BackpropNetwork)
    shapes = [list(layer.state_dict()["weight"].shape) for layer in [*network.layers, network.head]]
    assert shapes == [[20, 64], [5, 20], [10, 5]]


def test_all_algorithms_begin_with_the_same_hidden_weights() -> None:
    networks = [
        build_network(read_spec({"dataset": "digits", "architecture": "64,12,7", "algorithm": algorithm}))
        for algorithm in ("intff", "ff", "bp")
    ]
    first, *others = [list(network.parameters())[:4] for network in networks]
    for weights in others:
        assert all(map(torch.equal, first, weights))


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        spec = read_spec({"dataset": "digits", "architecture": "64,(9)", "training": {"seed": seed}})
        return next(build_network(spec).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("algorithm", "columns"),
    [
        ({"kind": "intff", "negatives": {"kind": "wrong_label", "count": 4}}, 4),
        ({"kind": "ff", "negatives": {"kind": "random_label", "count": 2}}, 2),
        ({"kind": "intff", "negatives": "hard_label"}, 10),
        ("bp", 0),
    ],
)
def test_negatives_are_drawn_as_the_spec_says(algorithm: object, columns: int) -> None:
    spec = read_spec({"algorithm": algorithm})
    images = torch.zeros((3, 1, 28, 28), dtype=torch.uint8)
    drawn = draw_negatives(spec, images, torch.tensor([1, 2, 3]), seeded(0, "test"))
    assert drawn.shape == (3, columns)


@pytest.mark.parametrize("kind", ["hybrid", "rotated", "noisy_copy", "gaussian_noise"])
def test_some_negatives_are_images_of_the_same_kind(kind: str) -> None:
    spec = read_spec({"algorithm": {"negatives": kind}})
    images = torch.randint(256, (3, 1, 28, 28), generator=seeded(1, "test")).to(torch.uint8)
    drawn = draw_negatives(spec, images, torch.tensor([1, 2, 3]), seeded(0, "test"))
    assert (drawn.shape, drawn.dtype) == (images.shape, images.dtype)
    assert all(not torch.equal(ours, given) for ours, given in zip(drawn, images, strict=True))
    network = build_network(spec)
    objective = build_objective(spec, network)
    assert isinstance(objective, LocalObjective)
    assert objective.source == "images"


def test_a_device_that_is_not_here_is_told() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
        return
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceUnavailable, match=r"training\.device is cuda, .* use auto or cpu"):
        choose_device("cuda")
