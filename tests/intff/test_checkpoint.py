import errno
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from intff import Trainer, TrainSpec
from intff.build import build_network
from intff.checkpoint import History, load, save
from intff.errors import CheckpointError

SpecOf = Callable[..., TrainSpec]


@pytest.fixture
def spec(digits_spec: SpecOf) -> TrainSpec:
    return digits_spec("64,(5),(3)", early_stopping={"patience": 3})


@pytest.fixture
def folder(spec: TrainSpec, tmp_path: Path) -> Path:
    """A checkpoint after one step, with the best epoch's weights."""
    network, optimizer = _parts(spec)
    torch.autograd.backward(network(torch.rand((2, 64))).ranking.sum())
    optimizer.step()
    best = {name: weight + 1 for name, weight in network.state_dict().items()}
    save(tmp_path / "checkpoint", spec, network, optimizer, History(3, 1.25, [0.5, 0.75, 0.25], best))
    return tmp_path / "checkpoint"


def _parts(spec: TrainSpec) -> tuple[Any, torch.optim.Optimizer]:
    network = build_network(spec)
    return network, torch.optim.Adam(network.parameters(), lr=0.1, fused=True)


def _load(folder: Path, spec: TrainSpec) -> History:
    return load(folder, spec, *_parts(spec))


def test_everything_comes_back(folder: Path, spec: TrainSpec, tmp_path: Path) -> None:
    network, optimizer = _parts(spec)
    history = load(folder, spec, network, optimizer)
    assert (history.epoch, history.train_seconds, history.validation_accuracies) == (3, 1.25, [0.5, 0.75, 0.25])
    assert all(torch.equal(history.best_weights[name], w + 1) for name, w in network.state_dict().items())
    steps = [float(state["step"]) for state in optimizer.state_dict()["state"].values()]
    assert steps == [1.0] * 4
    save(tmp_path / "again", spec, network, optimizer, history)
    for name in ("checkpoint.json", "state.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_it_is_two_files_that_any_program_can_read(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "state.safetensors"]
    facts = json.loads((folder / "checkpoint.json").read_bytes())
    assert facts["version"] == 1
    assert facts["history"]["epoch"] == 3
    assert "network.units.0.layers.0.weight" in safetensors.torch.load_file(folder / "state.safetensors")


@pytest.mark.parametrize("name", ["checkpoint.json", "state.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_noticed(folder: Path, spec: TrainSpec, name: str, kept: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CheckpointError, match=r"checkpoint .* (cannot be read|is damaged)"):
        _load(folder, spec)


@pytest.mark.parametrize("name", ["checkpoint.json", "state.safetensors"])
def test_any_flipped_bit_is_noticed(folder: Path, spec: TrainSpec, name: str) -> None:
    whole = (folder / name).read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointError):
            _load(folder, spec)


@pytest.mark.parametrize("name", ["checkpoint.json", "state.safetensors"])
def test_a_missing_file_is_told(folder: Path, spec: TrainSpec, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        _load(folder, spec)


def test_a_missing_folder_or_a_file_in_its_place_is_told(spec: TrainSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("nothing", "file"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            _load(tmp_path / place, spec)


def test_another_specs_checkpoint_is_refused(folder: Path, digits_spec: SpecOf) -> None:
    for other in (digits_spec("64,(5),(3)"), digits_spec("64,(5),(4)", early_stopping={"patience": 3})):
        with pytest.raises(CheckpointError, match="belongs to another spec"):
            _load(folder, other)


def test_one_from_before_a_field_was_known_goes_on_with_its_default(folder: Path, spec: TrainSpec) -> None:
    facts = json.loads((folder / "checkpoint.json").read_bytes())
    del facts["spec"]["training"]["precision"]
    del facts["sha256"]
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(facts))
    assert load(folder, spec, *_parts(spec)).epoch == 3


@pytest.mark.parametrize("contents", ["[]", "null", "3", '"x"', "{}", '{"version": 2}', "[" * 100_000, "\x00"])
def test_foreign_json_is_refused(folder: Path, spec: TrainSpec, contents: str) -> None:
    (folder / "checkpoint.json").write_text(contents)
    with pytest.raises(CheckpointError, match=r"cannot be read|is damaged"):
        _load(folder, spec)


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None], tensors: bytes | None = None) -> None:
    """Another build's checkpoint: whole, with hashes that are right."""
    if tensors is not None:
        (folder / "state.safetensors").write_bytes(tensors)
    facts = json.loads((folder / "checkpoint.json").read_bytes())
    facts["tensors_sha256"] = hashlib.sha256((folder / "state.safetensors").read_bytes()).hexdigest()
    change(facts)
    del facts["sha256"]
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("history"),
        lambda facts: facts.pop("threads"),
        lambda facts: facts.update(threads=0),
        lambda facts: facts["history"].update(mood="good"),
        lambda facts: facts.update(version=2),
        lambda facts: facts.pop("spec"),
    ],
)
def test_another_builds_checkpoint_is_refused(
    folder: Path, spec: TrainSpec, change: Callable[[dict[str, Any]], None]
) -> None:
    _rewrite(folder, change)
    with pytest.raises(CheckpointError):
        _load(folder, spec)


@pytest.mark.parametrize("names", [["mood.x"], ["network.units.0.layers.0.weight"], ["optimizer.a.step"], []])
def test_tensors_that_do_not_fit_are_refused(folder: Path, spec: TrainSpec, names: list[str]) -> None:
    tensors = safetensors.torch.save({name: torch.zeros(3) for name in names})
    _rewrite(folder, lambda _: None, tensors)
    with pytest.raises(CheckpointError, match="does not fit this version"):
        _load(folder, spec)


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_nothing_is_ever_unpickled(
    folder: Path, spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle with right hashes in the tensors' place is refused, and does not run."""
    monkeypatch.chdir(tmp_path)
    _rewrite(folder, lambda _: None, pickle.dumps(_Bomb()))
    with pytest.raises(CheckpointError, match="cannot be read"):
        _load(folder, spec)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_save_leaves_nothing_and_may_be_repeated(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    trainer = Trainer(spec)

    def failing(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise error

    for module, name in ((os, "fsync"), (json, "dumps")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, failing)
            with pytest.raises(type(error)):
                trainer.save_checkpoint(tmp_path / "saved" / "one")
        assert list((tmp_path / "saved").iterdir()) == []
    trainer.save_checkpoint(tmp_path / "saved" / "one")
    assert Trainer(spec, resume_from=tmp_path / "saved" / "one")._run.history.epoch == 0


def test_a_checkpoint_is_never_written_over_another(folder: Path, spec: TrainSpec) -> None:
    network, optimizer = _parts(spec)
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        save(folder, spec, network, optimizer, History())
