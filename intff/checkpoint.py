"""Checkpoints: all that is needed to go on from an epoch's end, as safetensors and JSON; nothing is unpickled."""

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
    """What a run remembers from epoch to epoch, beside its weights and its optimizer."""

    epoch: int = 0
    """Epochs that are done."""
    train_seconds: float = 0.0
    validation_accuracies: list[float] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the best epoch so far; kept only under early stopping."""

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest validation accuracy; 0 before the first."""
        accuracies = self.validation_accuracies
        return accuracies.index(max(accuracies)) + 1 if accuracies else 0

    def record(self, epoch: int, seconds: float, validation_accuracy: float) -> None:
        """Take note of a finished epoch."""
        self.epoch = epoch
        self.train_seconds += seconds
        self.validation_accuracies.append(validation_accuracy)


def save(folder: Path, spec: TrainSpec, network: Network, optimizer: torch.optim.Optimizer, history: History) -> None:
    """Write a checkpoint into a folder that does not exist yet; it is whole and on the disk, or not there."""
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
            # The order of sums, and so the last bits of the weights, depend on it.
            "threads": torch.get_num_threads(),
            "tensors_sha256": sha256(filling / _TENSORS),
        }
        facts["sha256"] = _digest(facts)
        (filling / _FACTS).write_text(json.dumps(facts, indent=1))


def load(folder: Path, spec: TrainSpec, network: Network, optimizer: torch.optim.Optimizer) -> History:
    """Put a checkpoint's weights and optimizer state in place, and its number of threads.

    Raises:
        CheckpointError: it is missing, damaged, or of another spec.
        OutOfMemory: it does not fit beside the network.
    """
    facts, tensors = _read(folder)
    if not _is_of(spec, facts.get("spec")):
        msg = f"the checkpoint {folder} belongs to another spec; a run goes on only with its own"
        raise CheckpointError(msg)
    try:
        with named_memory_errors():
            return _put_in_place(facts, tensors, network, optimizer)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # whole, but written by another build
        msg = f"the checkpoint {folder} does not fit this build's network and optimizer: {error}"
        raise CheckpointError(msg) from error


def _is_of(spec: TrainSpec, written: Any) -> bool:  # noqa: ANN401 -- whatever JSON has
    """Whether a spec that was written down is this one; an earlier version's lacks the fields that are new since."""
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
            msg = f"the checkpoint {folder} is damaged: {_FACTS} does not have the SHA-256 noted in it"
            raise CheckpointError(msg)
        if facts["version"] != 1:
            msg = f"the checkpoint {folder} has version {facts['version']}; this build reads version 1"
            raise CheckpointError(msg)
        if sha256(folder / _TENSORS) != facts["tensors_sha256"]:
            msg = f"the checkpoint {folder} is damaged: {_TENSORS} does not have the SHA-256 noted in {_FACTS}"
            raise CheckpointError(msg)
        return facts, safetensors.torch.load_file(folder / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        msg = f"the checkpoint {folder} cannot be read: {error}"
        raise CheckpointError(msg) from error


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
