"""Checkpoints: everything needed to resume from the end of an epoch, as safetensors and JSON, without pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from intff.errors import CheckpointError, SpecError
from intff.folders import new_folder, sha256
from intff.memory import named_memory_errors
from intff.networks import Network
from intff.spec import TrainSpec, read_spec

_TENSORS = "state.safetensors"
_FACTS = "checkpoint.json"


@dataclass
class History:
    """State that a run keeps between epochs, besides its weights and its optimizer."""

    epoch: int = 0
    """Finished epochs."""
    train_seconds: float = 0.0
    validation_accuracies: list[float] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best epoch so far; kept only with early stopping."""

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest validation accuracy; 0 before the first epoch ends."""
        accuracies = self.validation_accuracies
        return accuracies.index(max(accuracies)) + 1 if accuracies else 0

    def record(self, epoch: int, seconds: float, validation_accuracy: float) -> None:
        """Record a finished epoch."""
        self.epoch = epoch
        self.train_seconds += seconds
        self.validation_accuracies.append(validation_accuracy)


def save(folder: Path, spec: TrainSpec, network: Network, optimizer: torch.optim.Optimizer, history: History) -> None:
    """Write a checkpoint to a new folder, atomically and durably."""
    tensors = {f"network.{name}": weight for name, weight in network.state_dict().items()}
    tensors |= {f"best.{name}": weight for name, weight in history.best_weights.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
    with new_folder(folder) as filling:
        safetensors.torch.save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, filling / _TENSORS)
        facts = {
            "version": 1,
            "spec": spec.model_dump(mode="json"),
            "history": {key: value for key, value in asdict(history).items() if key != "best_weights"},
            # The order of summation, and therefore the last bits of the weights, depends on it.
            "threads": torch.get_num_threads(),
            "tensors_sha256": sha256(filling / _TENSORS),
        }
        facts["sha256"] = _digest(facts)
        (filling / _FACTS).write_text(json.dumps(facts, indent=1))


def load(folder: Path, spec: TrainSpec, network: Network, optimizer: torch.optim.Optimizer) -> History:
    """Restore a checkpoint's weights, optimizer state and number of threads.

    Returns:
        The run's history.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another spec.
        OutOfMemory: there is not enough memory to load it.
    """
    facts, tensors = _read(folder)
    if not _is_of(spec, facts.get("spec")):
        msg = f"the checkpoint {folder} belongs to another spec; a run can only resume from its own checkpoint"
        raise CheckpointError(msg)
    try:
        with named_memory_errors():
            return _put_in_place(facts, tensors, network, optimizer)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # intact, but written by another version
        msg = f"the checkpoint {folder} does not fit this version's network and optimizer: {error}"
        raise CheckpointError(msg) from error


def _is_of(spec: TrainSpec, written: Any) -> bool:  # noqa: ANN401 -- whatever JSON has
    """Whether a saved spec equals this one; one saved by an earlier version lacks fields added since."""
    try:
        return read_spec(written) == spec
    except SpecError:
        return False


def _put_in_place(
    facts: dict[str, Any], tensors: dict[str, Tensor], network: Network, optimizer: torch.optim.Optimizer
) -> History:
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    network.load_state_dict(parts["network"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        number, _, rest = name.partition(".")
        state.setdefault(int(number), {})[rest] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_num_threads(facts["threads"])
    return History(**facts["history"], best_weights=parts["best"])


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        facts = json.loads((folder / _FACTS).read_bytes())
        if facts["sha256"] != _digest({name: fact for name, fact in facts.items() if name != "sha256"}):
            msg = f"the checkpoint {folder} is damaged: {_FACTS} does not match its SHA-256"
            raise CheckpointError(msg)
        if facts["version"] != 1:
            msg = f"the checkpoint {folder} has version {facts['version']}; this version of intff reads version 1"
            raise CheckpointError(msg)
        if sha256(folder / _TENSORS) != facts["tensors_sha256"]:
            msg = f"the checkpoint {folder} is damaged: {_TENSORS} does not match its SHA-256 in {_FACTS}"
            raise CheckpointError(msg)
        return facts, safetensors.torch.load_file(folder / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        msg = f"the checkpoint {folder} cannot be read: {error}"
        raise CheckpointError(msg) from error


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
