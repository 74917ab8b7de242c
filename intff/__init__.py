"""A library for the Integrated Forward-Forward algorithm.

    from intff import read_spec, Trainer

Names that need torch are imported on first use, so that a process that only reads specs
stays small.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from intff.errors import IntffError, MissingExtra
from intff.spec import TrainSpec, read_spec

if TYPE_CHECKING:
    from intff.model import Model, load_model, train
    from intff.stacked import train_together
    from intff.trainer import Trainer

# Makes torch's threads sleep while waiting for each other; it must be set before torch is loaded. By default they
# spin, and next to another busy process a run on two cores took up to ten times as long
# (docs/decisions/0005-threads.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["IntffError", "Model", "TrainSpec", "Trainer", "load_model", "read_spec", "train", "train_together"]

_NEED_TORCH = {
    "Model": "intff.model",
    "load_model": "intff.model",
    "Trainer": "intff.trainer",
    "train": "intff.model",
    "train_together": "intff.stacked",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- any of the names above
    if name not in _NEED_TORCH:
        msg = f"module 'intff' has no attribute {name!r}"
        raise AttributeError(msg)
    if find_spec("torch") is None:
        msg = f"{name} needs PyTorch; install it with: pip install 'intff[train]'"
        raise MissingExtra(msg)
    return getattr(import_module(_NEED_TORCH[name]), name)


def __dir__() -> list[str]:
    return __all__
