"""Runs that train together, on the bundled digits: each is the run that it would have been alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from intff import Model, TrainSpec, read_spec, train, trainer
from intff.batches import Movable
from intff.build import build_network, build_objective, draw_negatives
from intff.errors import Diverged, SpecError
from intff.objectives import LocalObjective
from intff.progress import EpochEnd, Event, Finished, Started, Step
from intff.recorded import plainly
from intff.seeds import seeded
from intff.stacked import Stack, train_together

SpecOf = Callable[..., TrainSpec]

KINDS: list[tuple[object, object]] = [
    ("64,(12,8),(16)", "intff"),
    ("64,(12,8),(16),10", {"kind": "intff", "unit_weights": "calibrated"}),
    ("64,(12,8),(6)", {"kind": "intff", "label_encoding": "overlay", "negatives": {"kind": "wrong_label", "count": 1}}),
    ("64,(12),(8),10", {"kind": "intff", "label_encoding": "overlay", "negatives": "random_label"}),
    ("64,12,16", "ff"),
    ("64,12,10", "bp"),
    ("64,(12C3,P2),(13C2),(14)", "intff"),
    ("64,12C3,P2,12", {"kind": "ff", "label_encoding": "embedding", "loss": "symba", "normalization": "layer"}),
    ("64,(12C3,P2),12,10", "bp"),
    ("64,(12C2/2,A4),(A3,15)", "intff"),
    ("64,(12C3,A4),12,10", {"kind": "bp", "normalization": "rms"}),
    ("64,(12),(11)", {"negatives": {"kind": "hard_label", "count": 2}, "loss": "swish"}),
    ("64,(12),(11)", {"negatives": "hybrid", "loss": "softplus", "classifier": "softmax"}),
    ("64,(12),(11)", {"negatives": "gaussian_noise", "label_encoding": "overlay"}),
]


def _with(spec: TrainSpec, **training: object) -> TrainSpec:
    given = spec.model_dump(mode="json")
    return read_spec({**given, "training": {**given["training"], **training}})


def _weights(model: Model) -> dict[str, Tensor]:
    """All that was learned, running means included.

    But for the keys' biases: they change nothing that attention says, so their gradients are nothing but rounding,
    which Adam makes steps of.
    """
    found = dict(model.network.state_dict())
    for name, weight in found.items():
        if name.endswith("qkv_bias"):
            query, _, value = weight.chunk(3)
            found[name] = torch.cat([query, value])
    return found


@pytest.fixture
def in_float64() -> Iterator[None]:
    """The same computed in another order: in float32, Adam makes steps of rounding where a gradient nearly vanishes."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _require_same(together: Model, alone: Model) -> None:
    expected = _weights(alone)
    for name, weight in _weights(together).items():
        assert weight.dtype == torch.float64
        assert_close(weight, expected[name], rtol=1e-9, atol=1e-9, msg=name)
    assert together.result.test_accuracy == alone.result.test_accuracy
    assert together.result.validation_accuracy == alone.result.validation_accuracy
    assert together.result.epochs == alone.result.epochs
    assert together.result.parameters == alone.result.parameters


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize(("architecture", "algorithm"), KINDS)
@pytest.mark.parametrize("differ", ["in seed and rate", "in rate"])
def test_each_run_is_the_one_that_it_would_have_been_alone(
    architecture: str, algorithm: object, differ: str, digits_spec: SpecOf
) -> None:
    """Weights and running means, to rounding, after 42 steps of which two see a smaller batch."""
    spec = digits_spec(architecture, algorithm, jitter=1)
    if differ == "in rate":
        specs = [_with(spec, learning_rate=rate) for rate in (0.003, 0.01)]
    else:
        specs = [_with(spec, seed=seed, learning_rate=rate) for seed, rate in ((4, 0.003), (5, 0.003), (4, 0.01))]
    models = train_together(specs)
    assert [model.spec for model in models] == specs
    for model, expected in zip(models, specs, strict=True):
        _require_same(model, train(expected))


def test_runs_may_be_given_as_plain_fields() -> None:
    small = {"dataset": "digits", "architecture": "64,(8)"}
    fields = [small | {"training": {"epochs": 1, "seed": seed}} for seed in (0, 1)]
    with torch.no_grad():  # which some programs set for all they do
        models = train_together(fields)
    assert [model.spec for model in models] == [read_spec(each) for each in fields]


@pytest.mark.usefixtures("in_float64")
def test_runs_of_another_noise_each(digits_spec: SpecOf) -> None:
    """What is corrupted depends on the seed, and so does the split."""
    spec = read_spec({**digits_spec("64,(12),(11)").model_dump(mode="json"), "noise": "paper_mixture"})
    specs = [_with(spec, seed=seed) for seed in (0, 1)]
    for model, expected in zip(train_together(specs), specs, strict=True):
        _require_same(model, train(expected))


@pytest.mark.usefixtures("in_float64")
def test_what_is_reported_is_what_each_run_alone_reports(digits_spec: SpecOf) -> None:
    specs = [digits_spec("64,(12),(11)", seed=seed, learning_rate=0.01, epochs=3) for seed in (0, 1)]
    heard: list[tuple[int, Event]] = []
    train_together(specs, on_event=lambda number, event: heard.append((number, event)))
    for number, spec in enumerate(specs):
        events = [event for which, event in heard if which == number and not isinstance(event, Step)]
        alone: list[Event] = []
        train(spec, on_event=alone.append)
        expected = [event for event in alone if not isinstance(event, Step)]
        assert [type(event) for event in events] == [Started, EpochEnd, EpochEnd, EpochEnd, Finished]
        assert events[0] == expected[0]
        assert _facts(events) == pytest.approx(_facts(expected), rel=1e-9)


@pytest.mark.usefixtures("in_float64")
def test_a_run_that_stops_early_keeps_its_best_epoch_while_the_others_go_on(digits_spec: SpecOf) -> None:
    rule = {"early_stopping": {"patience": 1}, "schedule": "constant", "epochs": 12}
    specs = [digits_spec("64,(12),(11)", learning_rate=rate, **rule) for rate in (1.0, 0.01)]
    models = train_together(specs)
    assert models[0].result.epochs < models[1].result.epochs
    _require_same(models[1], train(specs[1]))
    alone = train(specs[0])
    assert models[0].result.epochs == alone.result.epochs


def test_the_networks_share_no_memory_afterwards(digits_spec: SpecOf) -> None:
    first, second = train_together([digits_spec(seed=seed, epochs=1) for seed in (0, 1)])
    before = _weights(second)["units.0.layers.0.weight"].clone()
    for weight in first.network.parameters():
        weight.data.zero_()
        assert weight.untyped_storage().data_ptr() != next(second.network.parameters()).untyped_storage().data_ptr()
    assert torch.equal(_weights(second)["units.0.layers.0.weight"], before)


def test_one_diverging_run_ends_all_by_name(digits_spec: SpecOf) -> None:
    algorithm = {"goodness": "sum_square", "label_encoding": {"value": 1000.0}}
    schedule = {"schedule": "constant", "epochs": 50}
    architecture = {"units": [[50] * 8], "activation": "relu"}
    specs = [digits_spec(architecture, algorithm, learning_rate=rate, **schedule) for rate in (0.001, 10.0)]
    with pytest.raises(Diverged, match=r"lower training\.learning_rate, which is 10"):
        train_together(specs)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"batch_size": 32}, "training", "the training of run 1 differs from that of run 0"),
        ({"epochs": 3}, "training", "only in seed and learning rate"),
    ],
)
def test_runs_that_differ_in_more_are_refused(
    changes: dict[str, object], field: str, message: str, digits_spec: SpecOf
) -> None:
    with pytest.raises(SpecError, match=message) as refused:
        train_together([digits_spec(), digits_spec(**changes)])
    assert refused.value.field == field


def test_no_runs_at_all_and_units_one_by_one_are_refused(digits_spec: SpecOf) -> None:
    with pytest.raises(SpecError, match="at least one; got none"):
        train_together([])
    with pytest.raises(SpecError, match="train them separately") as refused:
        train_together([digits_spec(unit_order="one_by_one")])
    assert refused.value.field == "training.unit_order"


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Refuses every operation on a CPU tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in (*args, made):
            assert not (isinstance(tensor, Tensor) and tensor.device.type == "cpu"), func
        return made


@pytest.mark.parametrize(("architecture", "algorithm"), KINDS)
def test_a_step_reads_nothing_back_and_brings_nothing_along(
    architecture: str, algorithm: object, digits_spec: SpecOf
) -> None:
    """On torch's device without memory, where reading a number fails, in place of a GPU that would have to wait."""
    spec = digits_spec(architecture, algorithm)
    networks = [build_network(spec).to("meta") for _ in range(2)]
    stack = Stack(networks, build_objective(spec, networks[0]))
    images = torch.zeros((5, 1, 8, 8), dtype=torch.uint8)
    negatives = draw_negatives(spec, images, torch.arange(5), seeded(0, "test")).to("meta")
    movable, labels = Movable(images.to("meta"), jitter=1), torch.arange(5, device="meta")
    with _Watch():  # type: ignore[no-untyped-call]
        losses = stack.losses(movable.batch(labels, labels, negatives), shared=True)
        (gradients,) = torch.autograd.grad(losses.total.sum(), stack.weights)
    assert gradients.shape == stack.weights.shape


@pytest.mark.parametrize("unit_order", ["together", "one_by_one"])
@pytest.mark.parametrize(("architecture", "algorithm"), KINDS)
def test_nor_does_a_step_of_one_run(architecture: str, algorithm: object, unit_order: str, digits_spec: SpecOf) -> None:
    spec = digits_spec(architecture, algorithm)
    network = build_network(spec).to("meta")
    objective = build_objective(spec, network)
    images = torch.zeros((5, 1, 8, 8), dtype=torch.uint8)
    negatives = draw_negatives(spec, images, torch.arange(5), seeded(0, "test")).to("meta")
    movable, labels = Movable(images.to("meta"), jitter=1), torch.arange(5, device="meta")
    with _Watch():  # type: ignore[no-untyped-call]
        batch = movable.batch(labels, labels, negatives)
        if unit_order == "one_by_one" and isinstance(objective, LocalObjective):
            objective.one_by_one(*batch, step=torch.autograd.backward, steps=2)
        else:
            torch.autograd.backward(objective(*batch).total)
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(("architecture", "algorithm"), KINDS)
def test_recorded_steps_are_the_steps_alone(
    architecture: str, algorithm: object, digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [digits_spec(architecture, algorithm, seed=seed, device="cuda", epochs=6) for seed in (0, 1)]
    monkeypatch.setattr(trainer, "Recorded", lambda: plainly)
    # Convolutions of several runs at once are other kernels than those of one, which TF32 rounds differently.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    for model, expected in zip(train_together(specs), specs, strict=True):
        alone = train(expected)
        assert model.result.validation_accuracy == pytest.approx(alone.result.validation_accuracy, abs=0.05)
        for name, weight in _weights(model).items():
            assert_close(weight, _weights(alone)[name], rtol=0.01, atol=0.01, msg=name)


def _facts(events: Sequence[Event]) -> list[float]:
    """Every number but what the clock says."""
    found: list[float] = []
    for event in events:
        if isinstance(event, EpochEnd):
            it = event.metrics
            found += [it.epoch, it.loss, it.validation_accuracy, it.learning_rate]
            found += it.unit_losses + it.unit_goodness_positive + it.unit_goodness_negative
    return found
