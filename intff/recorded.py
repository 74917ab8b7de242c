"""A training step recorded as a CUDA graph: the device then runs all of its kernels at one word from the processor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

_PLAIN_CALLS = 3  # of each shape first, as torch asks for: they make what a step makes only once


@dataclass
class _Shape:
    """What is known of the inputs of one shape."""

    plain_calls: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    inputs: list[Tensor] = field(default_factory=list)
    """Where the graph reads"""


class Recorded:
    """A step that is recorded once for each shape of its inputs and replayed from then on.

    Args:
        step: works on CUDA only, in place, and reads nothing back.
    """

    def __init__(self, step: Callable[..., None]) -> None:
        self._step = step
        self._shapes: dict[tuple[torch.Size, ...], _Shape] = {}

    def __call__(self, *inputs: Tensor) -> None:
        """Take the step; the inputs may be other tensors each time."""
        known = self._shapes.setdefault(tuple(given.shape for given in inputs), _Shape())
        if known.plain_calls < _PLAIN_CALLS:
            known.plain_calls += 1
            self._plainly(*inputs)
            return
        if known.graph is None:
            known.inputs = [given.clone() for given in inputs]
            known.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(known.graph):  # records, and runs nothing
                self._step(*known.inputs)
        for own, given in zip(known.inputs, inputs, strict=True):
            own.copy_(given)
        known.graph.replay()

    def _plainly(self, *inputs: Tensor) -> None:
        """Beside the stream of everything else, as torch asks for before a recording."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside), warnings.catch_warnings():
            # An optimizer that can be recorded wonders when it is not.
            warnings.filterwarnings("ignore", message=".*capturable=True.*", category=UserWarning)
            self._step(*inputs)
        here.wait_stream(beside)
