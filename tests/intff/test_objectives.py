"""The gradient facts of the paper's section 6: local losses are local, and their sum is no more than they are."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from intff.build import build_network, build_objective
from intff.goodness import GOODNESS
from intff.labels import Overlay
from intff.layers import SCALES, dense
from intff.losses import LOSSES
from intff.networks import BackpropNetwork, GoodnessNetwork
from intff.objectives import CrossEntropyObjective, LocalObjective
from intff.seeds import seeded
from intff.spec import read_spec
from intff.units import HiddenUnit

CLASSES, PIXELS, BATCH, THETA = 3, 9, 5, 1.5

OPTIONS = list(product(GOODNESS, SCALES, LOSSES))
NEGATIVES: list[dict[str, Any]] = [{"kind": "random_label", "count": 2}, {"kind": "wrong_label", "count": 3}]
UNITS = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=2), min_size=1, max_size=3)
SEEDS = st.integers(0, 10**6)


def _network(units: list[list[int]], goodness: str, scale: str, seed: int, *, head: bool = False) -> GoodnessNetwork:
    generator = seeded(seed, "test")
    built, below = [], PIXELS
    for widths in units:
        layers = [dense(inputs, outputs, generator) for inputs, outputs in zip([below, *widths], widths, strict=False)]
        for layer in layers:
            torch.nn.init.uniform_(layer.bias, -0.2, 0.3, generator=generator)
        built.append(HiddenUnit(layers, SCALES[scale]))
        below = widths[-1]
    softmax = dense(sum(widths[-1] for widths in units), CLASSES, generator) if head else None
    return GoodnessNetwork(built, Overlay(CLASSES, 2.0), GOODNESS[goodness], softmax, SCALES[scale])


def _batch(seed: int, *, pixels: int = PIXELS, classes: int = CLASSES) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(seed, "batch")
    labels = torch.randint(classes, (BATCH,), generator=generator)
    wrong = (labels.unsqueeze(1) + torch.randint(1, classes, (BATCH, 2), generator=generator)) % classes
    return torch.rand((BATCH, pixels), generator=generator), labels, wrong


def _gradients(module: torch.nn.Module, total: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(module.parameters())))


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize(("goodness", "scale", "loss"), OPTIONS)
@given(UNITS, SEEDS)
def test_the_sum_of_local_losses_has_exactly_the_separate_losses_gradients(
    goodness: str, scale: str, loss: str, units: list[list[int]], seed: int
) -> None:
    """Each unit alone, on inputs that are mere numbers; bit for bit (paper section 6.2)."""
    network = _network(units, goodness, scale, seed)
    images, labels, negatives = _batch(seed)
    together = _gradients(network, LocalObjective(network, LOSSES[loss], THETA)(images, labels, negatives).total)
    alone: list[Tensor] = []
    pixels = network.overlay.pixels(torch.cat([labels.unsqueeze(1), negatives], dim=1))
    hidden = network.units[0].forward_overlaid(network.overlay.blank(images), pixels)
    for number, unit in enumerate(network.units):
        if number:
            hidden = unit(hidden.detach())
        scores = GOODNESS[goodness](hidden)
        alone += _gradients(unit, LOSSES[loss](scores[:, 0], scores[:, 1:], THETA).mean())
    assert _equal(together, alone)


@pytest.mark.parametrize(("goodness", "scale", "loss"), OPTIONS)
@given(UNITS, SEEDS)
def test_they_are_those_of_plain_code_on_overlaid_images(
    goodness: str, scale: str, loss: str, units: list[list[int]], seed: int
) -> None:
    """The formulas of sections 3.1 and 3.2, written out again: positive and negative data as separate batches."""
    network = _network(units, goodness, scale, seed)
    images, labels, negatives = _batch(seed)
    objective = LocalObjective(network, LOSSES[loss], THETA)
    losses = objective(images, labels, negatives)
    together = _gradients(network, losses.total)
    blank = network.overlay.blank(images)
    positive = network.overlay.apply(blank, labels.unsqueeze(1)).squeeze(1)
    wrong = [network.overlay.apply(blank, column.unsqueeze(1)).squeeze(1) for column in negatives.T]
    alone: list[Tensor] = []
    for number, unit in enumerate(network.units):
        positive, *wrong = (unit(inputs.detach()) for inputs in (positive, *wrong))
        g_positive, *g_wrong = (_goodness(hidden, goodness) for hidden in (positive, *wrong))
        local = _softplus(THETA - g_positive).mean() / 2
        if loss == "softplus":
            local = local + torch.stack([_softplus(g - THETA).mean() for g in g_wrong]).mean() / 2
        else:
            local = local + _softplus(torch.stack(g_wrong).exp().sum(dim=0).log() - THETA).mean() / 2
        assert losses.units[number].item() == pytest.approx(local.item(), rel=1e-5, abs=1e-6)
        assert losses.positive[number].item() == pytest.approx(g_positive.mean().item(), rel=1e-5, abs=1e-6)
        mean_wrong = torch.stack(g_wrong).mean().item()
        assert losses.negative[number].item() == pytest.approx(mean_wrong, rel=1e-5, abs=1e-6)
        alone += _gradients(unit, local)
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, float(theirs.abs().max())))


def _goodness(hidden: Tensor, name: str) -> Tensor:
    squares = (hidden * hidden).sum(dim=1)
    return squares / hidden.shape[1] if name == "mean_square" else squares


def _softplus(values: Tensor) -> Tensor:
    return torch.log1p(values.exp())


@given(UNITS, SEEDS, st.booleans())
def test_a_unit_knows_nothing_of_later_units(units: list[list[int]], seed: int, head: bool) -> None:
    """Neither its activations nor its gradient change by a bit when every later weight does."""
    network = _network([*units, [4]], "mean_square", "rms", seed, head=head)
    images, labels, negatives = _batch(seed)
    objective = LocalObjective(network, LOSSES["softplus_logsumexp"], THETA)
    blank = network.overlay.blank(images)
    pixels = network.overlay.pixels(negatives)
    for kept in range(1, len(network.units)):
        parameters = [weight for unit in list(network.units)[:kept] for weight in unit.parameters()]
        before = torch.autograd.grad(objective(images, labels, negatives).total, parameters)
        forward = network.activations(blank, pixels)[:kept]
        with torch.no_grad():
            for unit in list(network.units)[kept:]:
                for weight in unit.parameters():
                    weight.normal_(generator=seeded(seed, "perturbation"))
        after = torch.autograd.grad(objective(images, labels, negatives).total, parameters)
        assert _equal(list(before), list(after))
        assert _equal(forward, network.activations(blank, pixels)[:kept])


@pytest.mark.parametrize(("goodness", "scale", "loss"), OPTIONS)
@pytest.mark.parametrize("negatives", NEGATIVES, ids=lambda given: given["kind"])
@pytest.mark.parametrize("classifier", ["goodness", "softmax"])
def test_intff_of_one_layer_units_is_ff(
    goodness: str, scale: str, loss: str, negatives: dict[str, Any], classifier: str
) -> None:
    """The same weights and, for the same batch, the same gradients, bit for bit."""
    options = {
        "goodness": goodness,
        "normalization": scale,
        "loss": loss,
        "negatives": negatives,
        "classifier": classifier,
    }
    gradients = []
    for algorithm, architecture in (("intff", "64,(12),(7)"), ("ff", "64,12,7")):
        spec = read_spec(
            {"dataset": "digits", "architecture": architecture, "algorithm": {"kind": algorithm, **options}}
        )
        network = build_network(spec)
        batch = _batch(5, pixels=64, classes=10)
        gradients.append([*network.parameters(), *_gradients(network, build_objective(spec, network)(*batch).total)])
    assert _equal(*gradients)
    assert any(bool(gradient.any()) for gradient in gradients[0][4:])


def test_the_softmax_layer_learns_from_cross_entropy_and_teaches_the_units_nothing() -> None:
    bare = _network([[5, 4], [3]], "mean_square", "rms", seed=1)
    network = _network([[5, 4], [3]], "mean_square", "rms", seed=1, head=True)
    batch = _batch(1)
    units = list(network.units)
    without = LocalObjective(bare, LOSSES["softplus"], THETA)(*batch)
    losses = LocalObjective(network, LOSSES["softplus"], THETA)(*batch)
    entropy = cross_entropy(network.logits(network.overlay.blank(batch[0])), batch[1])
    assert losses.total.item() == pytest.approx(without.total.item() + entropy.item(), rel=1e-6)
    unit_gradients = [torch.autograd.grad(losses.total, list(unit.parameters()), retain_graph=True) for unit in units]
    flat = [gradient for of_unit in unit_gradients for gradient in of_unit]
    assert _equal(flat, _gradients(bare, without.total))
    assert network.head is not None
    assert _equal(_gradients(network.head, losses.total), _gradients(network.head, entropy))


def test_backpropagation_is_cross_entropy_through_every_layer() -> None:
    generator = seeded(0, "test")
    first, second, head = dense(PIXELS, 6, generator), dense(6, 5, generator), dense(5, CLASSES, generator)
    network = BackpropNetwork([first, second], head)
    images, labels, _ = _batch(0)
    losses = CrossEntropyObjective(network)(images, labels, labels.new_empty((BATCH, 0)))
    plain = cross_entropy(head(second(first(images).relu()).relu()), labels)
    assert torch.equal(losses.total, plain)
    assert losses.units.tolist() == [plain.item()]
    assert losses.positive.shape == losses.negative.shape == (0,)
    gradients = _gradients(network, losses.total)
    assert _equal(gradients, _gradients(network, plain))
    assert bool(gradients[0].any())
