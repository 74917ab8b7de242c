"""The gradient facts of the paper's section 6: local losses are local, and their sum is no more than they are."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from intff.build import build_network, build_objective, draw_negatives
from intff.goodness import GOODNESS
from intff.labels import Overlay
from intff.layers import Dense, linear
from intff.losses import LOSSES
from intff.networks import BackpropNetwork, GoodnessNetwork
from intff.normalization import NORMALIZATIONS
from intff.objectives import CrossEntropyObjective, LocalObjective
from intff.seeds import seeded
from intff.spec import TrainSpec, read_spec
from intff.units import HiddenUnit

CLASSES, SIDE, BATCH, THETA = 3, 3, 5, 1.5
PIXELS = SIDE * SIDE

OPTIONS = list(product(GOODNESS, NORMALIZATIONS, LOSSES))
UNITS = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=2), min_size=1, max_size=3)
SEEDS = st.integers(0, 10**6)

DENSE, CONV, ATTENTION = "64,(14,12),(11)", "64,(12C3p,P2),(13C2p),(14)", "64,(12C2/2p,A4),(15C1p,A3)"
ENCODINGS = ["overlay", "embedding", "groups"]
NEGATIVES: list[Any] = [
    {"kind": "random_label", "count": 2},
    {"kind": "wrong_label", "count": 3},
    {"kind": "hard_label", "count": 2},
    *["hybrid", "rotated", "noisy_copy", "gaussian_noise"],
]


def _network(units: list[list[int]], goodness: str, scale: str, seed: int, *, head: bool = False) -> GoodnessNetwork:
    generator = seeded(seed, "test")
    built, below = [], PIXELS
    for widths in units:
        layers = [
            Dense(inputs, outputs, torch.relu_, generator)
            for inputs, outputs in zip([below, *widths], widths, strict=False)
        ]
        for layer in layers:
            torch.nn.init.uniform_(layer.bias, -0.2, 0.3, generator=generator)
        built.append(HiddenUnit(layers, NORMALIZATIONS[scale]))
        below = widths[-1]
    return GoodnessNetwork(
        built,
        encoding=Overlay(CLASSES, 2.0),
        goodness=GOODNESS[goodness],
        classes=CLASSES,
        head=linear(sum(widths[-1] for widths in units), CLASSES, generator) if head else None,
        normalization=NORMALIZATIONS[scale],
        unit_weights=torch.ones(len(units)),
    )


def _batch(seed: int, *, side: int = SIDE, classes: int = CLASSES) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(seed, "batch")
    labels = torch.randint(classes, (BATCH,), generator=generator)
    wrong = (labels.unsqueeze(1) + torch.randint(1, classes, (BATCH, 2), generator=generator)) % classes
    return torch.rand((BATCH, 1, side, side), generator=generator), labels, wrong


def _spec(architecture: str, **algorithm: Any) -> TrainSpec:
    return read_spec({"dataset": "digits", "architecture": architecture, "algorithm": algorithm})


def _batch_for(spec: TrainSpec) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, and what the spec's negatives are made of."""
    generator = seeded(5, "batch")
    labels = torch.randint(10, (BATCH,), generator=generator)
    pixels = torch.randint(256, (BATCH, 1, 8, 8), generator=generator).to(torch.uint8)
    return pixels / 255, labels, draw_negatives(spec, pixels, labels, generator)


def _gradients(module: torch.nn.Module, total: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(module.parameters())))


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("architecture", [DENSE, CONV, ATTENTION])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "options",
    [
        *[{"loss": loss, "negatives": {"kind": "wrong_label", "count": 3}} for loss in LOSSES],
        *[{"negatives": kind} for kind in NEGATIVES],
        *[{"normalization": kind} for kind in NORMALIZATIONS],
        {"goodness": "sum_square"},
    ],
    ids=str,
)
def test_the_sum_of_local_losses_has_exactly_the_separate_losses_gradients(
    architecture: str, encoding: str, options: dict[str, Any]
) -> None:
    """Each unit alone, on inputs that are mere numbers; bit for bit (paper section 6.2)."""
    if (architecture, encoding) == (ATTENTION, "embedding"):
        architecture = "64,(12C2/2p,A4),(15C1p)"
    spec = _spec(architecture, label_encoding=encoding, **options)
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    objective = build_objective(spec, network)
    assert isinstance(objective, LocalObjective)
    images, labels, negatives = _batch_for(spec)
    losses = objective(images, labels, negatives)
    together = _gradients(network, losses.total)

    images, labels, variants = objective.data(images, labels, negatives)
    alone: list[Tensor] = []
    hidden = images
    for number, unit in enumerate(network.units):
        activations = network.unit(number, hidden.detach(), variants)
        goodness = network.encoding.goodness(network.goodness, activations, variants)
        loss, _, _ = objective._losses(goodness.unsqueeze(1))
        alone += torch.autograd.grad(loss.sum(), list(unit.parameters()))
        assert torch.equal(losses.units[number], loss.detach()[0])
        hidden = activations
    assert _equal(together, alone)
    assert any(bool(gradient.any()) for gradient in together)


@pytest.mark.parametrize(("goodness", "scale", "loss"), OPTIONS)
@given(UNITS, SEEDS)
def test_they_are_those_of_plain_code_on_overlaid_images(
    goodness: str, scale: str, loss: str, units: list[list[int]], seed: int
) -> None:
    """The formulas of sections 3.1 and 3.2, written out again: positive and negative data as separate batches."""
    network = _network(units, goodness, scale, seed).double()
    images, labels, negatives = _batch(seed)
    images = images.double()
    objective = LocalObjective(network, LOSSES[loss], THETA)
    losses = objective(images, labels, negatives)
    together = _gradients(network, losses.total)
    positive, *wrong = (_overlaid(images, each) for each in (labels, *negatives.T))
    alone: list[Tensor] = []
    for number, unit in enumerate(network.units):
        positive, *wrong = (unit(inputs.detach()) for inputs in (positive, *wrong))
        g_positive, *g_wrong = (_goodness(hidden, goodness) for hidden in (positive, *wrong))
        local = _local_loss(g_positive, g_wrong, loss).mean()
        assert losses.units[number].item() == pytest.approx(local.item(), rel=1e-8, abs=1e-9)
        assert losses.positive[number].item() == pytest.approx(g_positive.mean().item(), rel=1e-8, abs=1e-9)
        mean_wrong = torch.stack(g_wrong).mean().item()
        assert losses.negative[number].item() == pytest.approx(mean_wrong, rel=1e-8, abs=1e-9)
        alone += _gradients(unit, local)
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9 * max(1.0, float(theirs.abs().max())))


def _overlaid(images: Tensor, labels: Tensor) -> Tensor:
    flat = images.flatten(1).clone()
    flat[:, :CLASSES] = 0
    flat[torch.arange(len(flat)), labels] = 2.0
    return flat


def _goodness(hidden: Tensor, name: str) -> Tensor:
    squares = (hidden * hidden).sum(dim=1)
    return squares / hidden.shape[1] if name == "mean_square" else squares


def _local_loss(positive: Tensor, wrong: list[Tensor], name: str) -> Tensor:
    each = torch.stack(wrong)  # [negatives, batch]
    if name == "softplus":
        return (_softplus(THETA - positive) + _softplus(each - THETA).mean(dim=0)) / 2
    if name == "softplus_logsumexp":
        return (_softplus(THETA - positive) + _softplus(each.exp().sum(dim=0).log() - THETA)) / 2
    gaps = positive - each
    if name == "symba":
        return _softplus(-4 * gaps).mean(dim=0)
    if name == "swish":
        return (-6 * gaps / (1 + (6 * gaps).exp())).mean(dim=0)
    return _softplus((-4 * gaps).exp().sum(dim=0).log())


def _softplus(values: Tensor) -> Tensor:
    return values.clamp_min(0) + torch.log1p((-values.abs()).exp())


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("architecture", [DENSE, CONV, "64,(12C2/2p,A4),(15C1p,A3),(11)"])
@pytest.mark.parametrize("classifier", ["goodness", "softmax"])
def test_a_unit_knows_nothing_of_later_units(architecture: str, encoding: str, classifier: str) -> None:
    """Neither its activations nor its gradient change by a bit when every later weight does."""
    spec = _spec(architecture, label_encoding=encoding, classifier=classifier)
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    objective = build_objective(spec, network)
    images, labels, negatives = _batch_for(spec)
    for kept in range(1, len(network.units)):
        parameters = [weight for unit in list(network.units)[:kept] for weight in unit.parameters()]
        before = torch.autograd.grad(objective(images, labels, negatives).total, parameters)
        forward = list(network.activations(images, negatives))[:kept]
        with torch.no_grad():
            for unit in list(network.units)[kept:]:
                for weight in unit.parameters():
                    weight.normal_(generator=seeded(kept, "perturbation"))
        after = torch.autograd.grad(objective(images, labels, negatives).total, parameters)
        assert _equal(list(before), list(after))
        assert _equal(forward, list(network.activations(images, negatives))[:kept])


@pytest.mark.parametrize(
    ("intff", "ff"),
    [("64,(12),(11)", "64,12,11"), ("64,(12C3,P2),(13C2),(14)", "64,12C3,P2,13C2,14")],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("negatives", NEGATIVES, ids=str)
@pytest.mark.parametrize("classifier", ["goodness", "softmax"])
def test_intff_of_one_layer_units_is_ff(intff: str, ff: str, encoding: str, negatives: Any, classifier: str) -> None:
    """The same weights and, for the same batch, the same gradients, bit for bit."""
    options = {"label_encoding": encoding, "negatives": negatives, "classifier": classifier}
    gradients = []
    for kind, architecture in (("intff", intff), ("ff", ff)):
        spec = _spec(architecture, kind=kind, **options)
        network = build_network(spec)
        total = build_objective(spec, network)(*_batch_for(spec)).total
        gradients.append([*network.parameters(), *_gradients(network, total)])
    assert _equal(*gradients)
    assert any(bool(gradient.any()) for gradient in gradients[0][len(gradients[0]) // 2 :])


@pytest.mark.parametrize(("goodness", "normalization", "loss"), OPTIONS)
def test_so_it_is_with_every_goodness_normalisation_and_loss(goodness: str, normalization: str, loss: str) -> None:
    gradients = []
    for kind, architecture in (("intff", "64,(12),(7)"), ("ff", "64,12,7")):
        spec = _spec(architecture, kind=kind, goodness=goodness, normalization=normalization, loss=loss)
        network = build_network(spec)
        gradients.append(_gradients(network, build_objective(spec, network)(*_batch_for(spec)).total))
    assert _equal(*gradients)
    assert any(bool(gradient.any()) for gradient in gradients[0])


@pytest.mark.parametrize("architecture", [DENSE, CONV, ATTENTION])
def test_with_every_wrong_label_a_groups_loss_is_cross_entropy_of_the_groups(architecture: str) -> None:
    """Each unit is a classifier of its own, whose logits are its groups' goodness times four."""
    spec = _spec(architecture, goodness="sum_square")
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    images, labels, negatives = _batch_for(spec)
    losses = build_objective(spec, network)(images, labels, negatives)
    hidden, total = images, torch.tensor(0.0)
    for number, unit in enumerate(network.units):
        hidden = unit(hidden.detach())
        groups = [part.flatten(1).square().sum(dim=1) for part in hidden.tensor_split(10, dim=1)]
        local = cross_entropy(4 * torch.stack(groups, dim=1), labels)
        assert losses.units[number].item() == pytest.approx(local.item(), rel=1e-4)
        total = total + local
    for ours, theirs in zip(_gradients(network, losses.total), _gradients(network, total), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["hybrid", "rotated", "noisy_copy", "gaussian_noise"])
def test_negative_images_are_looked_at_under_the_true_label(encoding: str, kind: str) -> None:
    spec = _spec(DENSE, label_encoding=encoding, negatives=kind, loss="softplus")
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    images, labels, negatives = _batch_for(spec)
    losses = build_objective(spec, network)(images, labels, negatives)
    positive = network.label_goodness(images, labels.unsqueeze(1)).squeeze(2)  # [batch, units]
    negative = network.label_goodness(negatives / 255, labels.unsqueeze(1)).squeeze(2)
    wanted = (_softplus(THETA - positive) + _softplus(negative - THETA)) / 2
    assert losses.units.tolist() == pytest.approx(wanted.mean(dim=0).tolist(), rel=1e-4)
    assert losses.positive.tolist() == pytest.approx(positive.mean(dim=0).tolist(), rel=1e-4)
    assert losses.negative.tolist() == pytest.approx(negative.mean(dim=0).tolist(), rel=1e-4)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_hard_labels_are_those_that_all_units_together_find_likely(encoding: str) -> None:
    """Goodness raised to the sky leaves the noise no say: the likeliest wrong labels are taken."""
    spec = _spec(DENSE, label_encoding=encoding, negatives={"kind": "hard_label", "count": 2}, loss="softplus")
    network = build_network(spec)
    assert isinstance(network, GoodnessNetwork)
    network.goodness = lambda hidden: 1e6 * GOODNESS["mean_square"](hidden)
    images, labels, noise = _batch_for(spec)
    losses = build_objective(spec, network)(images, labels, noise)
    every = network.unit_goodness(images)
    hardest = []
    for image, label in enumerate(labels.tolist()):
        ranked = every[image].sum(dim=0).argsort(descending=True).tolist()
        hardest.append([other for other in ranked if other != label][:2])
    wanted = every.gather(2, torch.tensor(hardest).unsqueeze(1).expand(-1, 2, -1)).mean(dim=(0, 2))
    assert losses.negative.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("steps", [1, 3])
def test_one_unit_after_the_other_sees_what_the_one_before_has_become(encoding: str, steps: int) -> None:
    """The author's order, written out again with plain gradient descent on twin networks."""
    spec = _spec(CONV, label_encoding=encoding, classifier="softmax")
    ours, theirs = build_network(spec), build_network(spec)
    assert isinstance(ours, GoodnessNetwork)
    assert isinstance(theirs, GoodnessNetwork)
    objective = build_objective(spec, ours)
    assert isinstance(objective, LocalObjective)
    images, labels, negatives = _batch_for(spec)

    def descend(loss: Tensor, network: GoodnessNetwork) -> None:
        weights = list(network.parameters())
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.sub_(0.1 * gradient)

    objective.one_by_one(images, labels, negatives, step=lambda loss: descend(loss, ours), steps=steps)

    variants = torch.cat([labels.unsqueeze(1), negatives], dim=1)
    for number in range(len(theirs.units)):
        for _ in range(steps):
            goodness = theirs.label_goodness(images, variants)[:, number]
            descend(objective.loss(goodness[:, 0], goodness[:, 1:], objective.theta).mean(), theirs)
    for _ in range(steps):
        descend(cross_entropy(theirs.logits(images), labels), theirs)
    for mine, plain in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, plain, rtol=1e-5, atol=1e-6)


def test_the_softmax_layer_learns_from_cross_entropy_and_teaches_the_units_nothing() -> None:
    bare = _network([[5, 4], [3]], "mean_square", "rms", seed=1)
    network = _network([[5, 4], [3]], "mean_square", "rms", seed=1, head=True)
    batch = _batch(1)
    units = list(network.units)
    without = LocalObjective(bare, LOSSES["softplus"], THETA)(*batch)
    losses = LocalObjective(network, LOSSES["softplus"], THETA)(*batch)
    entropy = cross_entropy(network.logits(batch[0]), batch[1])
    assert losses.total.item() == pytest.approx(without.total.item() + entropy.item(), rel=1e-6)
    unit_gradients = [torch.autograd.grad(losses.total, list(unit.parameters()), retain_graph=True) for unit in units]
    flat = [gradient for of_unit in unit_gradients for gradient in of_unit]
    assert _equal(flat, _gradients(bare, without.total))
    assert network.head is not None
    assert _equal(_gradients(network.head, losses.total), _gradients(network.head, entropy))


def test_backpropagation_is_cross_entropy_through_every_layer() -> None:
    generator = seeded(0, "test")
    first, second = Dense(PIXELS, 6, torch.relu_, generator), Dense(6, 5, torch.relu_, generator)
    head = linear(5, CLASSES, generator)
    network = BackpropNetwork([first, second], head)
    images, labels, _ = _batch(0)
    losses = CrossEntropyObjective(network)(images, labels, labels.new_empty((BATCH, 0)))
    hidden = images.flatten(1)
    for layer in (first, second):
        hidden = (hidden @ layer.weight.T + layer.bias).relu()
    plain = cross_entropy(head(hidden), labels)
    assert losses.total.item() == pytest.approx(plain.item(), rel=1e-6)
    assert losses.units.tolist() == [losses.total.item()]
    assert losses.positive.shape == losses.negative.shape == (0,)
    gradients = _gradients(network, losses.total)
    for ours, theirs in zip(gradients, _gradients(network, plain), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert bool(gradients[0].any())
