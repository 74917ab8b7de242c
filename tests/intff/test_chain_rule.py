"""The chain rule written out finds what autograd finds, for every option of a network of dense layers."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from intff.build import build_network, build_objective, draw_negatives
from intff.chain_rule import ChainRule, applies_to
from intff.goodness import GOODNESS
from intff.layers import ACTIVATIONS
from intff.losses import LOSSES
from intff.networks import GoodnessNetwork, Network
from intff.normalization import NORMALIZATIONS
from intff.objectives import LocalObjective, Objective, StepLosses
from intff.seeds import seeded
from intff.spec import TrainSpec, read_spec

BATCH = 5
ENCODINGS = ["overlay", "embedding", "groups"]
NEGATIVES: list[Any] = [
    {"kind": "random_label", "count": 3},
    {"kind": "wrong_label", "count": 1},
    {"kind": "wrong_label", "count": 9},
    {"kind": "hard_label", "count": 2},
    *["hybrid", "rotated", "noisy_copy", "gaussian_noise"],
]
OPTIONS: list[dict[str, Any]] = [
    *[{"negatives": negatives} for negatives in NEGATIVES],
    *[{"negatives": {"kind": "wrong_label", "count": count}, "loss": loss} for loss in LOSSES for count in (1, 3)],
    *[{"normalization": normalization} for normalization in NORMALIZATIONS],
    *[{"goodness": goodness} for goodness in GOODNESS],
    {"classifier": "softmax"},
    {"classifier": "softmax", "negatives": "hybrid", "loss": "softplus"},
]


def _spec(algorithm: dict[str, Any], units: Any, activation: str = "silu", **training: Any) -> TrainSpec:
    architecture = {"units": units, "activation": activation}
    return read_spec(
        {"dataset": "digits", "architecture": architecture, "algorithm": algorithm, "training": training},
    )


def _network(spec: TrainSpec) -> Network:
    """With biases that are not zero, in float64: what differs by more than rounding shows."""
    network = build_network(spec).double()
    generator = seeded(1, "test")
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator).double())
    return network


def _batch(spec: TrainSpec) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(5, "batch")
    labels = torch.randint(10, (BATCH,), generator=generator)
    pixels = torch.randint(256, (BATCH, 1, 8, 8), generator=generator).to(torch.uint8)
    return pixels.double() / 255, labels, draw_negatives(spec, pixels, labels, generator)


def _compare(spec: TrainSpec) -> None:
    network = _network(spec)
    objective = build_objective(spec, network)
    assert applies_to(objective)
    batch = _batch(spec)
    losses, gradients = ChainRule(objective).gradients(*batch)
    wanted = objective(*batch)
    weights = list(network.parameters())
    for weight, theirs in zip(weights, torch.autograd.grad(wanted.total, weights), strict=True):
        assert_close(gradients[weight], theirs, rtol=1e-7, atol=1e-12)
        assert bool(theirs.any())
    _compare_losses(losses, wanted)


def _compare_losses(losses: StepLosses, wanted: StepLosses) -> None:
    for name, ours, theirs in zip(StepLosses._fields, losses, wanted, strict=True):
        assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_of_local_losses(encoding: str, options: dict[str, Any]) -> None:
    """Groups of 12, 7 and 10 neurons: uneven ones and even ones."""
    _compare(_spec({"label_encoding": encoding, **options}, [[14, 12], [11], [9, 10]]))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_of_every_activation(encoding: str, activation: str, normalization: str) -> None:
    _compare(_spec({"label_encoding": encoding, "normalization": normalization}, [[14, 12], [11]], activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", ["none", *NORMALIZATIONS])
@pytest.mark.parametrize("units", [[[14, 12], [11]], [[13]]])
def test_of_backpropagation(activation: str, normalization: str, units: list[list[int]]) -> None:
    _compare(_spec({"kind": "bp", "normalization": normalization}, units, activation))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_of_ff(encoding: str) -> None:
    _compare(_spec({"kind": "ff", "label_encoding": encoding}, [[14], [12], [11]]))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_unit_learns_nothing_of_later_units(encoding: str, normalization: str) -> None:
    """Not a bit of its gradient changes when every later weight does (paper section 6.2)."""
    spec = _spec({"label_encoding": encoding, "normalization": normalization}, [[14, 12], [11], [10]])
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    images, labels, negatives = _batch(spec)
    chain_rule = ChainRule(build_objective(spec, network))
    before = dict(chain_rule.gradients(images.float(), labels, negatives)[1])
    with torch.no_grad():
        for weight in network.units[2].parameters():
            weight.normal_(generator=seeded(2, "perturbation"))
    after = chain_rule.gradients(images.float(), labels, negatives)[1]
    for unit in list(network.units)[:2]:
        assert all(torch.equal(before[weight], after[weight]) for weight in unit.parameters())
    assert not any(torch.equal(before[weight], after[weight]) for weight in network.units[2].parameters())


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("classifier", ["goodness", "softmax"])
@pytest.mark.parametrize("steps", [1, 3])
def test_one_unit_after_the_other(encoding: str, classifier: str, steps: int) -> None:
    """With plain gradient descent, as the objective itself does it."""
    algorithm = {"label_encoding": encoding, "classifier": classifier}
    spec = _spec(algorithm, [[14, 12], [11]], unit_order="one_by_one", steps_per_unit=steps)
    ours, theirs = _network(spec), _network(spec)
    objective = build_objective(spec, theirs)
    assert isinstance(objective, LocalObjective)
    batch = _batch(spec)

    def descend(gradients: dict[Tensor, Tensor]) -> None:
        for weight, gradient in gradients.items():
            weight.sub_(0.1 * gradient)

    def descend_by_autograd(loss: Tensor) -> None:
        weights = list(theirs.parameters())
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            descend({weight: each for weight, each in zip(weights, gradients, strict=True) if each is not None})

    wanted = objective.one_by_one(*batch, step=descend_by_autograd, steps=steps)
    losses = ChainRule(build_objective(spec, ours)).one_by_one(*batch, step=descend, steps=steps)
    for mine, plain, first in zip(ours.parameters(), theirs.parameters(), _network(spec).parameters(), strict=True):
        assert_close(mine, plain, rtol=1e-7, atol=1e-12)
        assert not torch.equal(mine, first)
    _compare_losses(losses, wanted)


def _of(units: Any, **algorithm: Any) -> Objective:
    spec = _spec(algorithm, units)
    return build_objective(spec, build_network(spec))


def test_it_applies_to_dense_layers_only() -> None:
    convolution = read_spec({"dataset": "digits", "architecture": "64,(12C3,P2),(13)"})
    assert not applies_to(build_objective(convolution, build_network(convolution)))
    assert not applies_to(_of([["12C3"], [13]], kind="bp"))
    assert applies_to(_of([[12], [13]], kind="bp"))


@pytest.mark.parametrize("change", ["loss", "goodness"])
def test_it_does_not_apply_to_what_it_has_no_derivative_of(change: str) -> None:
    objective = _of([[12], [13]])
    assert isinstance(objective, LocalObjective)

    def own(*given: Any) -> Tensor:
        first: Tensor = given[0]
        return first

    if change == "loss":
        objective = LocalObjective(objective.network, own, objective.theta)
    else:
        objective.network.goodness = own
    assert not applies_to(objective)
