"""Recorded steps, by a recorder that needs no GPU: a replay runs a step's operations, and none of its Python."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from intff import Trainer, TrainSpec
from intff.progress import EpochEnd
from intff.recorded import Recorded, Work, plainly
from intff.stacked import StackedTrainer

SpecOf = Callable[..., TrainSpec]

KINDS: list[tuple[object, object]] = [
    ("64,(12,8),(16)", "intff"),
    ("64,(12,8),(16),10", {"kind": "intff", "unit_weights": "calibrated"}),
    ("64,(12,8),(6)", {"kind": "intff", "label_encoding": "overlay", "negatives": {"kind": "wrong_label", "count": 1}}),
    ("64,12,16", "ff"),
    ("64,12,10", "bp"),
    ("64,(12C3,P2),(13C2),(14)", "intff"),
    ("64,12C3,P2,12", {"kind": "ff", "label_encoding": "embedding", "loss": "symba", "normalization": "layer"}),
    ("64,(12C2/2,A4),(A3,15)", "intff"),
    ("64,(12),(11)", {"negatives": {"kind": "hard_label", "count": 2}, "loss": "swish"}),
    ("64,(12),(11)", {"negatives": "hybrid", "loss": "softplus", "classifier": "softmax"}),
]
RUNS = [(*kind, "together") for kind in KINDS] + [(*kind, "one_by_one") for kind in KINDS[::3]]


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Notes every operation of torch's, with the tensors that went in and came out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noted: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.noted.append((func, args, kwargs or {}, made))
        return made

    @torch.no_grad()
    def again(self) -> None:
        """Run them on the tensors that were there before, and on what they make of them now."""
        now: dict[int, Tensor] = {}

        def current(given: Any) -> Any:
            return now.get(id(given), given) if isinstance(given, Tensor) else given

        for func, args, kwargs, made in self.noted:
            remade = func(*tree_map(current, args), **tree_map(current, kwargs))
            now |= {
                id(before): after
                for before, after in zip(tree_leaves(made), tree_leaves(remade), strict=True)
                if isinstance(before, Tensor)
            }


class _Tape:
    """Records as a CUDA graph does: numbers that Python puts into an operation stay what they were."""

    def __init__(self) -> None:
        self.plain = self.replayed = 0

    def plainly(self, work: Work) -> None:
        self.plain += 1
        work()

    def record(self, work: Work) -> Work:
        operations = _Operations()

        def replay() -> None:
            self.replayed += 1
            if operations.noted:
                operations.again()
                return
            with operations:
                work()

        return replay


def test_a_step_is_recorded_once_for_each_shape_and_reads_what_it_is_given() -> None:
    total, calls = torch.zeros(()), []

    def step(numbers: Tensor) -> None:
        calls.append(len(numbers))
        total.add_(numbers.sum())

    tape = _Tape()
    recorded = Recorded(tape)
    for given in ([1.0], [2.0], [3.0], [4.0], [5.0], [10.0, 20.0], [6.0], [30.0, 40.0]):
        recorded(step, torch.tensor(given))
    assert float(total) == 1 + 2 + 3 + 4 + 5 + 30 + 6 + 70
    assert (tape.plain, tape.replayed) == (3 + 2, 3)
    assert calls == [1, 1, 1, 1, 2, 2]  # three plain ones and the recorded one of one number; two of two


@pytest.mark.parametrize(("architecture", "algorithm", "unit_order"), RUNS)
def test_a_run_of_recorded_steps_is_the_run_of_plain_ones(
    architecture: str, algorithm: object, unit_order: str, digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, over five epochs of four steps, the last of ten images; each step has another rate."""
    spec = digits_spec(
        architecture, algorithm, jitter=1, epochs=5, batch_size=430, schedule="cosine", unit_order=unit_order
    )
    plain, recorded = Trainer(spec), Trainer(spec)
    tape = _Tape()
    monkeypatch.setattr(recorded, "_take", Recorded(tape))
    expected, found = [
        [event.metrics.loss for event in trainer.run() if isinstance(event, EpochEnd)] for trainer in (plain, recorded)
    ]
    assert (tape.plain, tape.replayed) == (6, 20 - 6)
    assert found == expected
    for name, weight in recorded.network.state_dict().items():
        assert torch.equal(weight, plain.network.state_dict()[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(("architecture", "algorithm", "unit_order"), RUNS)
def test_a_run_on_a_gpu_is_the_run_of_plain_steps(
    architecture: str, algorithm: object, unit_order: str, digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = digits_spec(architecture, algorithm, epochs=5, batch_size=430, unit_order=unit_order, device="cuda")
    plain, recorded = Trainer(spec), Trainer(spec)
    monkeypatch.setattr(plain, "_take", plainly)
    for trainer in (plain, recorded):
        list(trainer.run())
    for name, weight in recorded.network.state_dict().items():
        assert_close(weight, plain.network.state_dict()[name], rtol=0.01, atol=0.01, msg=name)


@pytest.mark.parametrize(("architecture", "algorithm"), KINDS[::2])
def test_runs_that_train_together_may_be_recorded(
    architecture: str, algorithm: object, digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [digits_spec(architecture, algorithm, jitter=1, epochs=5, batch_size=430, seed=seed) for seed in (0, 1)]
    plain, recorded = StackedTrainer(specs), StackedTrainer(specs)
    tape = _Tape()
    monkeypatch.setattr(recorded, "_take", Recorded(tape))
    for trainer in (plain, recorded):
        list(trainer.run())
    assert tape.replayed == 20 - 6
    for run, expected in zip(recorded.runs, plain.runs, strict=True):
        for name, weight in run.network.state_dict().items():
            assert torch.equal(weight, expected.network.state_dict()[name]), name
