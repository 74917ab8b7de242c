from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from intff.layers import ACTIVATIONS, Attention, BatchNorm, Convolution, Dense, MaxPool, linear
from intff.seeds import seeded
from intff.spec import Conv
from intff.spec import MaxPool as SpecMaxPool
from intff.spec.shapes import layer_shape, padding

PICTURE = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])


def _relu(before: Tensor) -> Tensor:
    return before.relu()


def _dense(inputs: int, neurons: int) -> Dense:
    return Dense(inputs, neurons, _relu, seeded(0, "weights"))


def _convolution(inputs: int = 1, channels: int = 1, **options: Any) -> Convolution:
    plain = {"kernel": (2, 2), "stride": 1, "zeros": (0, 0, 0, 0), "batch_norm": False, "activation": _relu}
    generator = seeded(0, "weights")
    return Convolution(inputs=inputs, channels=channels, generator=generator, **{**plain, **options})


def _set(module: nn.Module, **values: list[Any]) -> None:
    with torch.no_grad():
        for name, given_values in values.items():
            module.get_parameter(name).copy_(torch.tensor(given_values))


def _spec_convolution(layer: Conv, image: tuple[int, int], inputs: int, seed: int) -> Convolution:
    """As a network builder makes one, with random biases."""
    rows, columns = (padding(n, k, layer) for n, k in zip(image, layer.kernel, strict=True))
    generator = seeded(seed, "weights")
    built = Convolution(
        inputs=inputs,
        channels=layer.channels,
        kernel=layer.kernel,
        stride=layer.stride,
        zeros=(*rows, *columns),
        batch_norm=False,
        activation=_relu,
        generator=generator,
    )
    nn.init.uniform_(built.bias, -0.5, 0.5, generator=generator)
    return built


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("relu", [0.0, 0.0, 2.0]),
        ("leaky_relu", [-0.01, 0.0, 2.0]),
        ("gelu", [-0.158655, 0.0, 1.954500]),  # x times the normal distribution function: 0.158655 and 0.977250
        ("silu", [-0.268941, 0.0, 1.761594]),  # x / (1 + e^-x): e = 2.718282, e^-2 = 0.135335
        ("tanh", [-0.761594, 0.0, 0.964028]),
    ],
)
def test_activations_by_hand(name: str, outputs: list[float]) -> None:
    assert ACTIVATIONS[name](torch.tensor([-1.0, 0.0, 2.0])).tolist() == pytest.approx(outputs, abs=1e-6)


def test_a_dense_layer_by_hand() -> None:
    """1 * 1 + 2 * 2 + 3 * 3 + 4 * -1 + 0.5 = 10.5; 1 - 2 - 4 cut at zero; rows and columns are read in order."""
    layer = _dense(4, 2)
    _set(layer, weight=[[1.0, 2.0, 3.0, -1.0], [1.0, -1.0, 0.0, -1.0]], bias=[0.5, 0.0])
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    for wants_gradient in (True, False):
        with torch.set_grad_enabled(wants_gradient):
            assert layer.before(image).tolist() == [[10.5, -5.0]]
            assert layer(image).tolist() == [[10.5, 0.0]]


@pytest.mark.parametrize(
    ("layer", "inputs_and_outputs"),
    [
        (_dense(400, 200), 400 + 200),
        (_convolution(16, 40, kernel=(3, 5)), (16 + 40) * 15),
        (linear(400, 200, seeded(0, "weights")), 400 + 200),
    ],
    ids=["dense", "convolution", "linear"],
)
def test_weights_are_glorot_uniform_with_zero_biases(layer: Any, inputs_and_outputs: int) -> None:
    """The bound is the root of 6 / (inputs + outputs), for the dense layer 0.1."""
    bound = (6 / inputs_and_outputs) ** 0.5
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=2e-3)
    assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.05)
    assert layer.bias.count_nonzero() == 0


def test_every_kind_of_weight_has_its_shape() -> None:
    assert _dense(400, 200).weight.shape == (200, 400)
    assert _convolution(16, 40, kernel=(3, 5)).weight.shape == (40, 16, 3, 5)
    assert linear(400, 200, seeded(0, "weights")).weight.shape == (200, 400)
    shapes = {name: tuple(w.shape) for name, w in Attention((4, 3, 5), 2, seeded(0, "weights")).named_parameters()}
    assert shapes == {
        "position": (15, 4),
        "qkv_weight": (12, 4),
        "qkv_bias": (12,),
        "out_weight": (4, 4),
        "out_bias": (4,),
    }


def test_making_layers_leaves_the_callers_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    _dense(4, 3)
    linear(4, 3, seeded(0, "weights"))
    _convolution(3, 5, batch_norm=True)
    Attention((4, 3, 3), 2, seeded(0, "weights"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_convolution_by_hand() -> None:
    """At each place 1 * upper left + 10 * upper right + 100 * lower left + 1000 * lower right - 5000."""
    layer = _convolution()
    _set(layer, weight=[[[[1.0, 10.0], [100.0, 1000.0]]]], bias=[-5000.0])
    assert layer.before(PICTURE).tolist() == [[[[421.0, 1532.0], [3754.0, 4865.0]]]]
    _set(layer, bias=[-6000.0])
    assert layer(PICTURE).tolist() == [[[[0.0, 532.0], [2754.0, 3865.0]]]]


def test_an_even_kernel_that_keeps_the_size_has_its_odd_zero_below_and_right() -> None:
    """The last column and row meet zeros: 3 + 600 = 603, 7 + 80 = 87, 9."""
    layer = _spec_convolution(Conv(channels=1, kernel=(2, 2)), (3, 3), 1, seed=0)
    assert layer.zeros == (0, 1, 0, 1)
    _set(layer, weight=[[[[1.0, 10.0], [100.0, 1000.0]]]], bias=[0.0])
    assert layer(PICTURE).tolist() == [[[[5421.0, 6532.0, 603.0], [8754.0, 9865.0, 906.0], [87.0, 98.0, 9.0]]]]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "same", "valid", "zeros"),
    [
        (28, 3, 1, 28, 26, (1, 1)),
        (28, 2, 1, 28, 27, (0, 1)),
        (28, 4, 1, 28, 25, (1, 2)),
        (28, 3, 2, 14, 13, (0, 1)),  # 13 steps of 2, and 3, are 29 pixels
        (28, 4, 4, 7, 7, (0, 0)),
        (7, 3, 2, 4, 3, (1, 1)),
        (8, 5, 3, 3, 2, (1, 2)),
        (8, 1, 3, 3, 3, (0, 0)),  # a smaller kernel than stride leaves pixels out, and needs no zeros
        (2, 5, 1, 2, None, (2, 2)),
        (5, 5, 1, 5, 1, (2, 2)),
    ],
)
def test_only_the_stride_makes_a_padded_image_smaller(
    *, size: int, kernel: int, stride: int, same: int, valid: int | None, zeros: tuple[int, int]
) -> None:
    padded = Conv(channels=4, kernel=(kernel, kernel), stride=stride)
    bare = Conv(channels=4, kernel=(kernel, kernel), stride=stride, padding="valid")
    assert layer_shape((1, size, size), padded) == (4, same, same)
    assert padding(size, kernel, padded) == zeros
    assert padding(size, kernel, bare) == (0, 0)
    if valid is not None:
        assert layer_shape((1, size, size), bare) == (4, valid, valid)


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    same=st.booleans(),
    image=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    seed=st.integers(0, 10**6),
)
def test_a_convolution_is_torchs_on_an_image_with_the_zeros_put_around_it(
    *, kernel: tuple[int, int], stride: int, same: bool, image: tuple[int, int], seed: int
) -> None:
    spec = Conv(channels=4, kernel=kernel, stride=stride, padding="same" if same else "valid")
    layer = _spec_convolution(spec, image, 2, seed)
    inputs = torch.rand((3, 2, *image), generator=seeded(seed, "images")) - 0.5
    above, below, left, right = layer.zeros
    plain = conv2d(pad(inputs, (left, right, above, below)), layer.weight, layer.bias, stride).relu()
    found = layer(inputs)
    assert found.shape == (3, *layer_shape((2, *image), spec)) == plain.shape
    assert torch.allclose(found, plain, rtol=1e-5, atol=1e-6)


def test_pooling_takes_the_largest_of_each_square_and_drops_what_is_left_over() -> None:
    assert MaxPool(2)(PICTURE).tolist() == [[[[5.0]]]]
    assert MaxPool(3)(-PICTURE).tolist() == [[[[-1.0]]]]
    assert layer_shape((6, 9, 8), SpecMaxPool(size=2)) == (6, 4, 4)


def test_batch_normalisation_by_hand() -> None:
    """Of 1, 3 and 5, 7 the mean is 4 and the variance 5; the running ones have gone a tenth of the way.

    Torch's running variance is that of a sample, 20 / 3.
    """
    norm = BatchNorm(1)
    _set(norm, gain=[3.0])
    before, bias = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]]), torch.tensor([0.5])
    root = (5 + 1e-5) ** 0.5
    wanted = [3 * (value - 4) / root + 0.5 for value in (1, 3, 5, 7)]
    assert norm(before, bias).flatten().tolist() == pytest.approx(wanted, rel=1e-5)
    assert norm.mean.tolist() == pytest.approx([0.4])
    assert norm.variance.tolist() == pytest.approx([0.9 + 2 / 3])
    running = [3 * (value - 0.4) / (0.9 + 2 / 3 + 1e-5) ** 0.5 + 0.5 for value in (1, 3, 5, 7)]
    assert norm.eval()(before, bias).flatten().tolist() == pytest.approx(running, rel=1e-5)
    assert norm.mean.tolist() == pytest.approx([0.4])


def test_a_single_value_is_normalised_by_the_running_mean_and_variance() -> None:
    """It has no variance of its own: the last batch of an epoch may be one image, and its map one pixel."""
    norm = BatchNorm(2)
    with torch.no_grad():
        norm.mean.copy_(torch.tensor([1.0, 2.0]))
        norm.variance.fill_(4.0)
    outputs = norm(torch.tensor([[[[5.0]], [[2.0]]]]), torch.zeros(2))
    assert outputs.flatten().tolist() == pytest.approx([2.0, 0.0], abs=1e-5)
    assert norm.mean.tolist() == [1.0, 2.0]


def test_a_normalised_convolution_adds_its_bias_afterwards() -> None:
    layer = _convolution(batch_norm=True)
    _set(layer, weight=[[[[1.0, 10.0], [100.0, 1000.0]]]], bias=[7.0])
    outputs = layer.before(PICTURE)  # 5421, 6532, 8754 and 9865 without it, around 7643
    assert outputs.mean().item() == pytest.approx(7.0, abs=1e-4)
    spread = ((2222**2 + 1111**2) / 2) ** 0.5
    assert outputs.flatten().tolist() == pytest.approx([7 + d / spread for d in (-2222, -1111, 1111, 2222)], rel=1e-4)


def _attention(shape: tuple[int, int, int], heads: int, seed: int = 0) -> Attention:
    """Random weights and, unlike at a run's start, random biases."""
    generator = seeded(seed, "test")
    layer = Attention(shape, heads, generator)
    for bias in (layer.qkv_bias, layer.out_bias):
        nn.init.uniform_(bias, -0.5, 0.5, generator=generator)
    return layer


def test_attention_by_hand() -> None:
    """Two positions, (1, 3) and (6, 2), of which layer normalisation makes (-1, 1) and (1, -1).

    Queries are those times 3 in the first channel, keys as they are, values too; the first position's
    similarities are 3 and -3 over the root of 2, so it takes w (-1, 1) + (1 - w) (1, -1) with
    w = 1 / (1 + e^(-6 / 1.414214)) = 0.985829: (-0.971659, 0.971659).
    """
    layer = Attention((2, 1, 2), 1, seeded(0, "weights"))
    one = [[1.0, 0.0], [0.0, 1.0]]
    _set(
        layer,
        position=[[0.0, 0.0], [0.0, 0.0]],
        qkv_weight=[[3.0, 0.0], [0.0, 0.0], *one, *one],
        out_weight=[[10.0, 0.0], [0.0, 1.0]],
        out_bias=[0.0, 5.0],
    )
    hidden = torch.tensor([[[[1.0, 6.0]], [[3.0, 2.0]]]])
    w = 0.971659
    wanted = [1 - 10 * w, 6 + 10 * w, 3 + w + 5, 2 - w + 5]
    assert layer(hidden).flatten().tolist() == pytest.approx(wanted, abs=1e-4)


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
def test_attention_treats_all_positions_alike_but_for_their_own_vectors(seed: int, heads: int) -> None:
    """Positions in another order, their vectors with them, give the same outputs in that order."""
    layer, generator = _attention((4, 2, 3), heads, seed), seeded(seed, "inputs")
    hidden = torch.randn((3, 4, 2, 3), generator=generator)
    order = torch.randperm(6, generator=generator)
    wanted = layer(hidden).flatten(2)[:, :, order]
    with torch.no_grad():
        layer.position.copy_(layer.position[order])
    shuffled = hidden.flatten(2)[:, :, order].view_as(hidden)
    assert torch.allclose(layer(shuffled).flatten(2), wanted, rtol=1e-4, atol=1e-5)


def test_where_something_is_matters_to_attention() -> None:
    layer = _attention((4, 1, 2), 2)
    hidden = torch.randn((1, 4, 1, 2), generator=seeded(0, "inputs"))
    assert not torch.allclose(layer(hidden.flip(3)).flip(3), layer(hidden), atol=1e-3)


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4]))
def test_attention_is_plain_code_head_by_head(seed: int, heads: int) -> None:
    """Against the formula softmax(q k / sqrt(d)) v, written out for each head and each row alone."""
    layer = _attention((8, 2, 2), heads, seed)
    hidden = torch.randn((2, 8, 2, 2), generator=seeded(seed, "inputs"))
    for row in range(2):
        tokens = hidden[row].flatten(1).T + layer.position
        seen = tokens - tokens.mean(dim=1, keepdim=True)
        seen = seen / (seen.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
        query, key, value = (seen @ layer.qkv_weight.T + layer.qkv_bias).chunk(3, dim=1)
        mixed, size = [], 8 // heads
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            similar = query[:, part] @ key[:, part].T / size**0.5
            mixed.append(torch.softmax(similar, dim=1) @ value[:, part])
        wanted = tokens + torch.cat(mixed, dim=1) @ layer.out_weight.T + layer.out_bias
        assert torch.allclose(layer(hidden)[row].flatten(1).T, wanted, rtol=1e-4, atol=1e-5)


def test_rows_know_nothing_of_each_other_in_attention() -> None:
    layer = _attention((4, 2, 2), 2)
    hidden = torch.randn((3, 4, 2, 2), generator=seeded(0, "inputs"))
    assert torch.allclose(layer(hidden)[1:2], layer(hidden[1:2]), rtol=1e-5, atol=1e-6)
