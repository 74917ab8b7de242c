import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from intff.build import build_network
from intff.networks import GoodnessNetwork
from intff.spec import Attention, Conv, MaxPool, read_spec
from intff.spec.layers import Layer
from intff.spec.shapes import Shape, layer_shape, learned_by, unit_shapes


@pytest.mark.parametrize(
    ("shape", "layer", "output", "learned"),
    [
        ((784,), 50, (50,), 785 * 50),
        ((3, 4, 5), 7, (7,), 61 * 7),
        ((3, 8, 6), Conv(channels=5), (5, 8, 6), (3 * 9 + 2) * 5),
        ((3, 8, 6), Conv(channels=5, kernel=(3, 1), padding="valid", batch_norm=False), (5, 6, 6), (3 * 3 + 1) * 5),
        ((3, 8, 6), Conv(channels=5, kernel=(4, 4), stride=3), (5, 3, 2), (3 * 16 + 2) * 5),
        ((3, 8, 6), Conv(channels=5, kernel=(4, 4), stride=3, padding="valid"), (5, 2, 1), (3 * 16 + 2) * 5),
        ((3, 9, 6), MaxPool(), (3, 4, 3), 0),
        ((3, 9, 6), MaxPool(size=4), (3, 2, 1), 0),
        ((4, 3, 5), Attention(heads=2), (4, 3, 5), 4 * 15 + 4 * (16 + 4)),
    ],
)
def test_a_layers_output_and_what_it_learns_by_hand(shape: Shape, layer: Layer, output: Shape, learned: int) -> None:
    assert layer_shape(shape, layer) == output
    assert learned_by(shape, layer) == learned


def test_units_go_on_from_each_others_outputs() -> None:
    units: list[list[Layer]] = [
        [Conv(channels=12), MaxPool()],
        [Conv(channels=16, stride=2), Attention(heads=4)],
        [20, 15],
    ]
    assert unit_shapes((1, 28, 28), units) == [
        [(12, 28, 28), (12, 14, 14)],
        [(16, 7, 7), (16, 7, 7)],
        [(20,), (15,)],
    ]


CONVOLUTIONS = st.builds(
    Conv,
    channels=st.sampled_from([10, 12]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 2),
    batch_norm=st.booleans(),
)
MAPPED = st.tuples(CONVOLUTIONS, st.sampled_from([(), (MaxPool(),), (Attention(heads=2),)]))
DENSE = st.lists(st.integers(10, 20), min_size=1, max_size=2)


@given(st.lists(MAPPED, min_size=1, max_size=2), DENSE)
def test_the_network_has_the_shapes_and_the_numbers_that_were_told(
    mapped: list[tuple[Conv, tuple[Layer, ...]]], dense: list[int]
) -> None:
    units: list[list[Layer]] = [*([first, *rest] for first, rest in mapped), [*dense]]
    spec = read_spec({"architecture": {"units": units}})
    network = build_network(spec).eval()
    assert isinstance(network, GoodnessNetwork)
    found = [tuple(hidden.shape[1:]) for hidden in network.activations(torch.rand(2, 1, 28, 28), None)]
    assert found == [shapes[-1] for shapes in spec.architecture.shapes]
    before: Shape = (1, 28, 28)
    for unit, layers, shapes in zip(network.units, spec.architecture.units, spec.architecture.shapes, strict=True):
        for built, layer, shape in zip(unit.layers, layers, shapes, strict=True):
            assert sum(weight.numel() for weight in built.parameters()) == learned_by(before, layer)
            before = shape
