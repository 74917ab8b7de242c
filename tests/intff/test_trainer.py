"""The training loop, on the bundled digits."""

import gc
import hashlib
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from intff import Trainer, TrainSpec, runs, training_data
from intff.adam import Adam
from intff.batches import Batch
from intff.build import build_network
from intff.calibration import fitted_unit_weights
from intff.checkpoint import History
from intff.errors import Diverged, OutOfMemory
from intff.inference import accuracy, score
from intff.learning import Learner
from intff.networks import GoodnessNetwork, Network
from intff.objectives import StepLosses
from intff.progress import EpochEnd, EpochMetrics, Event, Finished, Result, Started, Step
from intff.seeds import seeded
from intff.spec import read_spec
from intff.stacked import StackedTrainer

SpecOf = Callable[..., TrainSpec]


def fingerprint(network: Network) -> str:
    """The SHA-256 of all weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    return digest.hexdigest()


def _run(spec: TrainSpec) -> tuple[Trainer, list[Event]]:
    trainer = Trainer(spec)
    return trainer, list(trainer.run())


def _result(events: list[Event]) -> Result:
    assert isinstance(events[-1], Finished)
    return events[-1].result


def _metrics(events: list[Event]) -> list[EpochMetrics]:
    return [event.metrics for event in events if isinstance(event, EpochEnd)]


@pytest.mark.parametrize("algorithm", ["intff", "ff", "bp"])
def test_a_run_tells_its_start_every_epoch_and_its_end(algorithm: str, digits_spec: SpecOf) -> None:
    architecture = "64,30,10" if algorithm == "bp" else "64,30,20"
    trainer, events = _run(digits_spec(architecture, algorithm, epochs=3, learning_rate=0.01))
    started, result, epochs = events[0], _result(events), _metrics(events)
    assert isinstance(started, Started)
    assert (started.epochs, started.first_epoch, started.train_images, started.device) == (3, 1, 1300, "cpu")
    assert started.dataset_source.startswith("scikit-learn ")
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    units = 1 if algorithm == "bp" else 2
    scored = 0 if algorithm == "bp" else 2
    for epoch in epochs:
        assert len(epoch.unit_losses) == units
        assert len(epoch.unit_goodness_positive) == len(epoch.unit_goodness_negative) == scored
        assert epoch.loss == pytest.approx(sum(epoch.unit_losses), rel=1e-5)
        assert epoch.samples_per_second == pytest.approx(1300 / epoch.seconds)
    # Half a cosine over three epochs: 1, then (1 + cos 60) / 2, then (1 + cos 120) / 2.
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx([0.01, 0.0075, 0.0025])
    assert epochs[-1].loss < epochs[0].loss
    assert result.epochs == 3
    assert result.parameters == started.parameters == sum(weight.numel() for weight in trainer.network.parameters())
    assert result.validation_accuracy == epochs[-1].validation_accuracy
    assert result.train_seconds == pytest.approx(sum(epoch.seconds for epoch in epochs))
    assert result.test_accuracy > 0.5


def test_it_learns_the_digits(digits_spec: SpecOf) -> None:
    _, events = _run(digits_spec("64,(100,100),(50)", epochs=15, learning_rate=0.005))
    assert _result(events).validation_accuracy >= 0.9
    assert _result(events).test_accuracy >= 0.85  # other people's hands than in the training files


def test_the_same_spec_gives_the_same_weights_and_another_seed_others(digits_spec: SpecOf) -> None:
    def weights(seed: int) -> str:
        torch.manual_seed(seed + int(time.monotonic()))  # the global seed plays no part
        trainer, _ = _run(digits_spec(epochs=1, jitter=1, seed=seed))
        return fingerprint(trainer.network)

    first, again, other = weights(0), weights(0), weights(1)
    assert first == again
    assert first != other


def test_the_test_set_is_touched_once_and_at_the_end(digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, bool]] = []
    trainer = Trainer(digits_spec(epochs=3, early_stopping={"patience": 1}))
    seen: list[Event] = []

    def spy(network: Network, images: Tensor, labels: Tensor) -> float:
        is_test = images.data_ptr() == trainer._run.data.test_images.data_ptr()
        measured.append((len(labels), is_test))
        return accuracy(network, images, labels)

    monkeypatch.setattr(runs, "accuracy", spy)
    seen.extend(trainer.run())
    epochs = len(_metrics(seen))
    assert measured == [(137, False)] * epochs + [(360, True)]
    assert isinstance(seen[-2], EpochEnd)


def test_the_test_sets_contents_change_nothing_that_is_learnt(digits_spec: SpecOf) -> None:
    trainer = Trainer(digits_spec(epochs=3, early_stopping={"patience": 1}))
    trainer._run.data.test_images.zero_()
    trainer._run.data.test_labels.zero_()
    list(trainer.run())
    untouched, _ = _run(digits_spec(epochs=3, early_stopping={"patience": 1}))
    assert fingerprint(trainer.network) == fingerprint(untouched.network)


def test_what_a_run_needed_is_free_as_soon_as_nobody_has_it(digits_spec: SpecOf) -> None:
    """Without a garbage collector, for a worker runs one job after another."""
    _run(digits_spec())  # the first optimizer of a process leaves things of torch's own
    gc.collect()
    gc.disable()
    try:
        trainer, events = _run(digits_spec())
        ended = weakref.ref(trainer)
        del trainer, events
        assert ended() is None
    finally:
        gc.enable()


def test_a_run_that_was_left_in_the_middle_of_an_epoch_does_not_go_on(digits_spec: SpecOf) -> None:
    """It would repeat the epoch with the weights that half of it has changed already."""
    trainer = Trainer(digits_spec("64,(64,64),(32)", epochs=1, batch_size=1))
    assert any(isinstance(event, Step) for event in trainer.run())  # and no further than the first one
    with pytest.raises(RuntimeError, match="stopped within an epoch"):
        next(iter(trainer.run()))


def test_no_model_is_exported_before_the_end(digits_spec: SpecOf, tmp_path: Path) -> None:
    trainer = Trainer(digits_spec())
    with pytest.raises(RuntimeError, match="has not finished"):
        trainer.export_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint_is_taken_of_the_middle_of_an_epoch(digits_spec: SpecOf, tmp_path: Path) -> None:
    trainer = Trainer(digits_spec("64,(64,64),(32)", epochs=1, batch_size=1))
    trainer.save_checkpoint(tmp_path / "before")
    for event in trainer.run():
        if isinstance(event, Step):
            with pytest.raises(RuntimeError, match="save a checkpoint at its end"):
                trainer.save_checkpoint(tmp_path / "within")
        if isinstance(event, EpochEnd):
            trainer.save_checkpoint(tmp_path / "after")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "before"]


def test_it_prints_nothing(digits_spec: SpecOf, capfd: pytest.CaptureFixture[str]) -> None:
    _run(digits_spec())
    assert capfd.readouterr() == ("", "")


def test_steps_come_several_times_a_second_and_go_forward(digits_spec: SpecOf) -> None:
    _, events = _run(digits_spec("64,(64,64),(32)", epochs=3, batch_size=2))
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) >= _result(events).train_seconds  # five a second, but machines are busy
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < fractions[-1] <= 1
    assert all(step.epoch == int(step.fraction * 3 - 1e-9) + 1 for step in steps)
    assert all(step.eta_seconds > 0 and step.samples_per_second > 0 for step in steps)


def test_the_consumers_time_is_not_training_time(digits_spec: SpecOf) -> None:
    began, slept = time.perf_counter(), 0.0
    trainer = Trainer(digits_spec("64,(64,64),(32)", batch_size=4))
    events = []
    for event in trainer.run():
        events.append(event)
        time.sleep(0.1)
        slept += 0.1
    seconds = time.perf_counter() - began
    assert sum(isinstance(event, Step) for event in events) >= 2
    assert _result(events).train_seconds <= seconds - slept


def test_a_run_may_be_left_at_any_event(digits_spec: SpecOf, tmp_path: Path) -> None:
    trainer = Trainer(digits_spec(epochs=100_000))
    run = trainer.run()
    for event in run:
        if isinstance(event, EpochEnd):
            break
    run.close()  # type: ignore[attr-defined]  # a generator, as it promises
    trainer.save_checkpoint(tmp_path / "left")
    for folder in (tmp_path / "left", str(tmp_path / "left")):
        assert Trainer(trainer.spec, resume_from=folder)._run.history.epoch == 1


def test_an_absurd_learning_rate_diverges_by_name(digits_spec: SpecOf) -> None:
    algorithm = {"goodness": "sum_square", "label_encoding": {"value": 1000.0}}
    spec = digits_spec(
        {"units": [[50] * 8], "activation": "relu"}, algorithm, learning_rate=10.0, schedule="constant", epochs=50
    )
    with pytest.raises(Diverged, match=r"the loss became (nan|inf) in epoch \d+; lower training\.learning_rate"):
        _run(spec)


def test_a_run_whose_last_step_breaks_its_network_diverges(digits_spec: SpecOf) -> None:
    """One step in all: its loss, which is from before it, is an ordinary number."""
    spec = digits_spec(
        {"units": [[40] * 24], "activation": "relu"}, learning_rate=10.0, schedule="constant", epochs=1, batch_size=2000
    )
    with pytest.raises(Diverged, match=r"the score of an image's label is (nan|inf)"):
        _run(spec)


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ((float("nan"), 1.0, 1.0, 1.0), "the loss became nan in epoch 1"),
        ((1.0, 1.0, float("inf"), 1.0), "the goodness became inf in epoch 1"),
        ((1.0, 1.0, 1.0, float("inf")), "the goodness of the negative data became inf in epoch 1"),
    ],
)
def test_a_goodness_that_leaves_the_range_is_a_divergence_also_where_the_loss_stays(
    sums: tuple[float, ...], message: str, digits_spec: SpecOf
) -> None:
    spec = digits_spec()
    run = runs.Run(spec, training_data.load(spec, torch.device("cpu")), build_network(spec))
    total, *of_units = sums
    with pytest.raises(Diverged, match=message):
        run.end_epoch(1, 1.0, StepLosses(torch.tensor(total), *(torch.tensor([0.5, each]) for each in of_units)))


def test_a_network_larger_than_the_memory_is_told_so() -> None:
    spec = read_spec({"dataset": "digits", "architecture": "64,(1000000000,1000000000)"})
    with pytest.raises(OutOfMemory, match="make the batch or the network smaller"):
        Trainer(spec)


@pytest.mark.parametrize("step", ["__init__", "load_state_dict"])
@pytest.mark.parametrize("raised", [torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory")], ids=str)
def test_so_is_one_whose_optimizer_is(
    step: str, raised: Exception, digits_spec: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is made, or read from a checkpoint, which is not called damaged for it."""
    spec = digits_spec(epochs=2)
    trainer, _ = _run(spec)
    trainer.save_checkpoint(tmp_path / "checkpoint")

    def without_memory(*_: object) -> None:
        raise raised

    monkeypatch.setattr(Adam, step, without_memory)
    with pytest.raises(OutOfMemory, match="make the batch or the network smaller"):
        Trainer(spec, resume_from=tmp_path / "checkpoint")
    if step == "__init__":
        with pytest.raises(OutOfMemory):
            StackedTrainer([spec])


def test_with_one_unit_the_order_of_units_changes_nothing(digits_spec: SpecOf) -> None:
    """Nor for backpropagation, which has none."""
    for architecture, algorithm in (("64,(14,12)", "intff"), ("64,(12C3,P2)", "intff"), ("64,14,12,10", "bp")):
        together, one_by_one = (
            _run(digits_spec(architecture, algorithm, unit_order=order))[0] for order in ("together", "one_by_one")
        )
        assert fingerprint(together.network) == fingerprint(one_by_one.network)


def test_with_several_units_and_steps_the_order_does(digits_spec: SpecOf) -> None:
    found = {
        fingerprint(_run(digits_spec("64,(14),(12)", **order))[0].network)
        for order in (
            {"unit_order": "together"},
            {"unit_order": "one_by_one"},
            {"unit_order": "one_by_one", "steps_per_unit": 2},
        )
    }
    assert len(found) == 3


@pytest.mark.parametrize("architecture", ["64,(14),(12),10", "64,(6C3,P2),(11),10"])
def test_backpropagations_one_unit_takes_as_many_steps_as_it_is_told(architecture: str, digits_spec: SpecOf) -> None:
    """By the chain rule and by autograd: three steps on a batch are that batch three times."""
    plain = digits_spec(architecture, "bp")
    often = digits_spec(architecture, "bp", unit_order="one_by_one", steps_per_unit=3)
    labels = torch.arange(7)
    batch = Batch(torch.rand((7, 1, 8, 8), generator=seeded(0, "test")), labels, labels.new_empty((7, 0)))
    networks = [build_network(spec) for spec in (plain, often)]
    learners = [Learner(spec, network) for spec, network in zip((plain, often), networks, strict=True)]
    for learner in learners:
        learner.optimizer.rate.fill_(0.01)
    for _ in range(3):
        last = learners[0].step(batch)
    assert torch.equal(learners[1].step(batch).total, last.total)
    assert fingerprint(networks[1]) == fingerprint(networks[0])


def test_the_learning_rate_rises_and_then_follows_its_schedule(digits_spec: SpecOf) -> None:
    """At the starts of eight epochs: up in two of them, held for three, and down in a straight line."""
    schedule = {"schedule": "hold_then_decay", "warmup": 0.25, "learning_rate": 0.01}
    _, events = _run(digits_spec("64,(14)", epochs=8, **schedule))
    rates = [epoch.learning_rate for epoch in _metrics(events)]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.01, 0.01, 0.01, 0.02 / 3, 0.01 / 3])


def test_calibrated_units_count_as_fits_the_validation_images(digits_spec: SpecOf) -> None:
    """The weights are learnt as if all units counted alike, and the fit is the last epoch's."""
    calibrated, events = _run(digits_spec("64,(20),(14)", {"unit_weights": "calibrated"}))
    equal, _ = _run(digits_spec("64,(20),(14)"))
    assert isinstance(calibrated.network, GoodnessNetwork)
    assert isinstance(equal.network, GoodnessNetwork)
    assert all(map(torch.equal, calibrated.network.parameters(), equal.network.parameters()))
    data = calibrated._run.data
    unit_goodness = score(equal.network, data.validation_images).unit_goodness
    assert unit_goodness is not None
    weights = fitted_unit_weights(unit_goodness, data.validation_labels)
    assert torch.equal(calibrated.network.unit_weights, weights)
    assert weights.tolist() != [1, 1]
    right = calibrated.network.weighted(unit_goodness).argmax(dim=1) == data.validation_labels
    assert _result(events).validation_accuracy == pytest.approx(float(right.double().mean()))


def test_batch_normalisation_goes_by_what_was_seen_in_training(digits_spec: SpecOf) -> None:
    trainer, _ = _run(digits_spec("64,(12C3,P2)", epochs=1))
    assert isinstance(trainer.network, GoodnessNetwork)
    buffers = dict(trainer.network.named_buffers())
    means = [mean for name, mean in buffers.items() if name.endswith("mean")]
    variances = [variance for name, variance in buffers.items() if name.endswith("variance")]
    assert bool(means[0].all())
    assert float((variances[0] - 1).abs().min()) > 1e-4


def test_early_stopping_keeps_the_best_epochs_weights(digits_spec: SpecOf) -> None:
    spec = digits_spec(epochs=200, learning_rate=0.05, schedule="constant", early_stopping={"patience": 2})
    trainer = Trainer(spec)
    weights: dict[int, str] = {}
    accuracies: list[float] = []
    events: list[Event] = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, EpochEnd):
            weights[event.metrics.epoch] = fingerprint(trainer.network)
            accuracies.append(event.metrics.validation_accuracy)
    best = accuracies.index(max(accuracies)) + 1
    result = _result(events)
    assert result.epochs == len(accuracies) == best + 2 < 200
    assert fingerprint(trainer.network) == weights[best] != weights[best + 2]
    assert result.validation_accuracy == max(accuracies)


def test_without_early_stopping_the_last_weights_are_kept(digits_spec: SpecOf) -> None:
    trainer = Trainer(digits_spec(epochs=2))
    last = [fingerprint(trainer.network) for event in trainer.run() if isinstance(event, EpochEnd)][-1]
    assert fingerprint(trainer.network) == last


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    history = History()
    assert history.best_epoch == 0
    for epoch, share in enumerate([0.5, 0.9, 0.7, 0.9], start=1):
        history.record(epoch, 1.5, share)
    assert (history.best_epoch, history.epoch, history.train_seconds) == (2, 4, 6.0)


_MNIST = Path(os.environ.get("INTFF_DATA_DIR", "nowhere")).expanduser()
_HAS_MNIST = any(
    (_MNIST / name).exists() for name in ("mnist", "train-images-idx3-ubyte.gz", "train-images-idx3-ubyte")
)
_REQUIRED = os.environ.get("INTFF_TEST_REQUIRE_SERVICES", "") not in {"", "0"}


@pytest.mark.slow
@pytest.mark.skipif(not (_HAS_MNIST or _REQUIRED), reason="MNIST is not in INTFF_DATA_DIR, and not required here")
def test_two_epochs_of_the_defaults_pass_95_percent_on_mnist() -> None:
    _, events = _run(read_spec({"training": {"epochs": 2}}))
    result = _result(events)
    assert result.test_accuracy >= 0.95
    assert result.validation_accuracy >= 0.95


def _facts(epochs: list[EpochMetrics]) -> list[dict[str, Any]]:
    """Everything but what the clock says."""
    clock = {"seconds", "samples_per_second"}
    return [{name: value for name, value in vars(epoch).items() if name not in clock} for epoch in epochs]


_OPTIONS: list[tuple[object, object]] = [
    ("64,(12,8),(6)", "intff"),
    ("64,(12,8),10", {"kind": "intff", "negatives": "random_label", "goodness": "sum_square"}),
    ("64,12,8", {"kind": "ff", "normalization": "l2"}),
    ("64,12,10", "bp"),
    ("64,(12C3,P2),(13C2),(14)", "intff"),
    ("64,(12C2/2,A4),(A3,15C1),10", {"kind": "intff", "unit_weights": "calibrated"}),
    ("64,12C3,P2,12", {"kind": "ff", "label_encoding": "embedding", "loss": "symba", "normalization": "layer"}),
    ("64,(12),(11)", {"negatives": {"kind": "hard_label", "count": 2}, "loss": "swish"}),
    ("64,(12),(11)", {"negatives": "hybrid", "loss": "softplus", "classifier": "softmax"}),
    ("64,(12),(11)", {"negatives": "rotated", "label_encoding": "overlay"}),
    ("64,(12),(11)", {"negatives": "noisy_copy", "label_encoding": "embedding"}),
    ("64,(12),(11)", {"negatives": "gaussian_noise"}),
    ("64,(12C3,A4),12,10", {"kind": "bp", "normalization": "rms"}),
    ("64,(12C3,P2),(13C2p)", {"label_encoding": "embedding", "unit_weights": "calibrated"}),
    ({"units": [[12], [11]], "activation": "relu"}, {"unit_weights": [0.5, 2], "loss": "softplus_logsumexp"}),
    ({"units": [[12], [11]], "activation": "leaky_relu"}, "ff"),
    ({"units": [["12C3", "P2"], [11]], "activation": "gelu"}, {"loss": "cross_entropy"}),
    ({"units": [["12C2/2"], ["A4", 11]], "activation": "tanh"}, {"negatives": {"kind": "hard_label", "count": 9}}),
]
_NOISES: list[object] = [
    {"kind": "gaussian", "share": 0.5, "sigma": 0.3},
    {"kind": "missing_rows", "share": 0.5, "max_rows": 4},
    {"kind": "pure_noise", "share": 0.5},
    {"kind": "label_noise", "share": 0.5, "flips": "pair"},
    {"kind": "mixture", "share": 0.9, "proportions": {"missing_rows": 1, "label_noise": 2}},
]


@pytest.mark.parametrize(
    ("architecture", "algorithm", "noise"),
    [
        *((*option, noise) for noise in ("none", "paper_mixture") for option in _OPTIONS),
        *((*_OPTIONS[0], noise) for noise in _NOISES),
    ],
)
def test_a_run_resumed_at_any_epochs_end_is_the_run_that_was_never_interrupted(
    architecture: object, algorithm: object, noise: object, digits_spec: SpecOf, tmp_path: Path
) -> None:
    """Bit for bit, for every option: weights, metrics and the epoch that is kept, with early stopping on."""
    order = {"unit_order": "one_by_one", "steps_per_unit": 2} if noise == "none" else {}
    schedule = {"schedule": "hold_then_decay", "warmup": 0.25} if noise == "none" else {}
    schedule |= {"epochs": 4, "jitter": 1, "learning_rate": 0.03, "early_stopping": {"patience": 2}}
    given = digits_spec(architecture, algorithm, **order, **schedule).model_dump(mode="json")
    spec = read_spec({**given, "noise": noise, "dataset": {"kind": "digits", "train_size": 300}})
    whole = Trainer(spec)
    events: list[Event] = []
    for event in whole.run():
        events.append(event)
        if isinstance(event, EpochEnd):
            whole.save_checkpoint(tmp_path / str(event.metrics.epoch))
    epochs, result = _metrics(events), _result(events)
    assert len(epochs) >= 3
    for done in range(1, len(epochs) + 1):
        resumed = Trainer(spec, resume_from=tmp_path / str(done))
        later = list(resumed.run())
        assert isinstance(later[0], Started)
        assert later[0].first_epoch == done + 1
        assert _facts(_metrics(later)) == _facts(epochs[done:])
        assert fingerprint(resumed.network) == fingerprint(whole.network)
        again = _result(later)
        assert (again.test_accuracy, again.validation_accuracy) == (result.test_accuracy, result.validation_accuracy)
        assert again.epochs == result.epochs
