"""What a run promises, on a GPU; that its recorded steps are the plain ones is in test_recorded.py."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from intff import Trainer, TrainSpec, load_model, recorded, train
from intff.errors import OutOfMemory
from intff.progress import EpochEnd

SpecOf = Callable[..., TrainSpec]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SMALL = "64,(12,8),(16)"
CONVOLUTIONS = "64,(12C3,P2),(13C2),(20)"
ATTENTION = "64,(12C2/2,A4),(A3,15)"


@pytest.mark.parametrize("architecture", [SMALL, CONVOLUTIONS, ATTENTION])
@pytest.mark.parametrize("algorithm", ["intff", {"negatives": "hybrid", "loss": "softplus"}, "bp"])
def test_a_resumed_run_is_the_uninterrupted_run(
    architecture: str, algorithm: object, digits_spec: SpecOf, tmp_path: Path
) -> None:
    """To the last bit, though its steps are recorded anew."""
    spec = digits_spec(architecture, algorithm, epochs=5, jitter=1, schedule="cosine", device="cuda")
    whole, interrupted = Trainer(spec), Trainer(spec)
    list(whole.run())
    for event in interrupted.run():
        if isinstance(event, EpochEnd) and event.metrics.epoch == 2:
            interrupted.save_checkpoint(tmp_path / "checkpoint")
            break
    resumed = Trainer(spec, resume_from=tmp_path / "checkpoint")
    list(resumed.run())
    for name, weight in resumed.network.state_dict().items():
        assert torch.equal(weight, whole.network.state_dict()[name]), name


def test_a_model_from_a_gpu_answers_alike_on_a_cpu(
    digits_spec: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which rounds as much as the limit below
    model = train(digits_spec(CONVOLUTIONS, epochs=5, device="cuda"))
    model.save(tmp_path / "model")
    images = np.random.default_rng(0).integers(256, size=(20, 1, 8, 8), dtype=np.uint8)
    here = load_model(tmp_path / "model").predict(images)
    for there, expected in zip(model.predict(images), here, strict=True):
        assert there.goodness == pytest.approx(expected.goodness, rel=1e-3)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_memory_that_runs_out_while_a_step_is_recorded(digits_spec: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails by its name, and the next one in the same process trains."""
    record = recorded._CudaGraphs.record

    def without_memory(self: recorded._CudaGraphs, work: recorded.Work) -> recorded.Work:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
        return record(self, work)

    trainer = Trainer(digits_spec("64,(2000,2000)", epochs=5, device="cuda"))
    monkeypatch.setattr(recorded._CudaGraphs, "record", without_memory)
    try:
        with pytest.raises(OutOfMemory, match="make the batch or the network smaller"):
            list(trainer.run())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    monkeypatch.undo()
    assert train(digits_spec(SMALL, epochs=5, device="cuda")).result.epochs == 5


def test_two_runs_at_once_are_the_runs_alone(digits_spec: SpecOf) -> None:
    """In threads of one process, each recording its steps while the other one trains."""
    specs = [digits_spec(CONVOLUTIONS, epochs=5, seed=seed, device="cuda") for seed in (0, 1)]
    with ThreadPoolExecutor() as threads:
        together = list(threads.map(train, specs))
    for model, spec in zip(together, specs, strict=True):
        expected = train(spec).network.state_dict()
        for name, weight in model.network.state_dict().items():
            assert torch.equal(weight, expected[name]), name
