import pytest
import torch

from intff.build import build_network, build_objective, choose_device, draw_negatives
from intff.errors import DeviceUnavailable
from intff.goodness import sum_square
from intff.labels import Embedding, Groups, Overlay
from intff.layers import ACTIVATIONS, Attention, Convolution, Dense, MaxPool
from intff.losses import softplus_mean
from intff.networks import BackpropNetwork, GoodnessNetwork, Network
from intff.normalization import l2, layer
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


def test_a_spec_becomes_layers_of_every_kind() -> None:
    units = [["12C(3,2)", {"kind": "max_pool", "size": 3}], ["16C2/2vp", "A8"], [20]]
    algorithm = {"unit_weights": [1, 0.5, 0], "classifier": "softmax"}
    architecture = {"units": units, "activation": "leaky_relu"}
    network = build_network(read_spec({"architecture": architecture, "algorithm": algorithm}))
    assert isinstance(network, GoodnessNetwork)
    (first, pool), (second, attention), (dense,) = (unit.layers for unit in network.units)
    assert isinstance(first, Convolution)
    assert (tuple(first.weight.shape), first.stride, first.zeros) == ((12, 1, 3, 2), 1, (1, 1, 0, 1))
    assert first.norm is not None
    assert first.activation is ACTIVATIONS["leaky_relu"]
    assert isinstance(pool, MaxPool)
    assert pool.size == 3
    assert isinstance(second, Convolution)
    assert (tuple(second.weight.shape), second.stride, second.zeros) == ((16, 12, 2, 2), 2, (0, 0, 0, 0))
    assert second.norm is None
    assert isinstance(attention, Attention)
    assert (tuple(attention.position.shape), attention.heads) == ((16, 16), 8)  # nine by nine, then four by four
    assert isinstance(dense, Dense)
    assert dense.weight.shape == (20, 16 * 16)
    assert network.unit_weights.tolist() == [1, 0.5, 0]
    assert network.encoding == Groups(10)
    assert network.normalization is layer
    assert network.head is not None
    assert network.head.weight.shape == (10, 12 + 16 + 20)
    assert all(unit.embedding is None for unit in network.units)


@pytest.mark.parametrize("name", ["equal", "calibrated"])
def test_until_they_are_fitted_all_units_count_alike(name: str) -> None:
    network = build_network(read_spec({"architecture": "784,(20),(10)", "algorithm": {"unit_weights": name}}))
    assert isinstance(network, GoodnessNetwork)
    assert network.unit_weights.tolist() == [1, 1]


def test_every_unit_has_vectors_for_the_labels_as_wide_as_its_first_layer() -> None:
    """Drawn with a deviation of one: 10 * 620 numbers, 5 standard deviations."""
    spec = read_spec({"architecture": "784,(300C1,20C1),(300),(20)", "algorithm": {"label_encoding": "embedding"}})
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    assert isinstance(network.encoding, Embedding)
    vectors = [unit.embedding for unit in network.units if unit.embedding is not None]
    assert [tuple(of_unit.shape) for of_unit in vectors] == [(10, 300), (10, 300), (10, 20)]
    numbers = torch.cat([of_unit.flatten() for of_unit in vectors])
    assert numbers.std().item() == pytest.approx(1, abs=5 / (2 * 6200) ** 0.5)
    assert numbers.mean().item() == pytest.approx(0, abs=5 / 6200**0.5)


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


@pytest.mark.parametrize("architecture", ["64,12,7", "64,12C3,P2,13C2p,A1,14"])
def test_all_algorithms_begin_with_the_same_hidden_weights(architecture: str) -> None:
    networks = [
        build_network(read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm}))
        for algorithm in ("intff", "ff", "bp", {"negatives": "hybrid", "classifier": "softmax"})
    ]
    first, *others = [_hidden(network) for network in networks]
    assert len(first) > 3
    for weights in others:
        assert len(weights) == len(first)
        assert all(map(torch.equal, first, weights))


def test_the_labels_vectors_are_drawn_beside_the_weights() -> None:
    architecture = {"dataset": "digits", "architecture": "64,(12,11),(10)"}
    groups, vectors = (
        build_network(read_spec({**architecture, "algorithm": {"label_encoding": kind}}))
        for kind in ("groups", "embedding")
    )
    assert all(map(torch.equal, _hidden(groups), _hidden(vectors)))


def _hidden(network: Network) -> list[torch.Tensor]:
    """The weights of all layers but the output's, from input to output."""
    layers = (
        network.layers
        if isinstance(network, BackpropNetwork)
        else [each for unit in network.units for each in unit.layers]
    )
    return [weight for each in layers for weight in each.parameters()]


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
