"""A training step that is recorded once and replayed: a GPU then runs all of its kernels at one word."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

_PLAIN_CALLS = 3  # of each shape first, as torch asks for: they make what a step makes only once

Work = Callable[[], None]


class Recorder(Protocol):
    """What can record."""

    def plainly(self, work: Work) -> None:
        """Work that will be recorded later."""

    def record(self, work: Work) -> Work:
        """Nothing yet; what is given back does the work, with the same memory each time."""


class Recorded:
    """A step that is recorded once for each shape of its inputs and replayed from then on.

    Args:
        step: works in place, and reads nothing back.
        recorder: of CUDA graphs, unless told otherwise.
    """

    def __init__(self, step: Callable[..., None], recorder: Recorder | None = None) -> None:
        self._step = step
        self._recorder = recorder or _CudaGraphs()
        self._shapes: dict[tuple[torch.Size, ...], _Shape] = {}

    def __call__(self, *inputs: Tensor) -> None:
        """Take the step; the inputs may be other tensors each time."""
        known = self._shapes.setdefault(tuple(given.shape for given in inputs), _Shape())
        if known.plain_calls < _PLAIN_CALLS:
            known.plain_calls += 1
            self._recorder.plainly(lambda: self._step(*inputs))
            return
        if known.replay is None:
            known.inputs = [given.clone() for given in inputs]
            known.replay = self._recorder.record(lambda: self._step(*known.inputs))
        for own, given in zip(known.inputs, inputs, strict=True):
            own.copy_(given)
        known.replay()


@dataclass
class _Shape:
    """What is known of the inputs of one shape."""

    plain_calls: int = 0
    replay: Work | None = None
    inputs: list[Tensor] = field(default_factory=list)
    """Where the replay reads"""


class _CudaGraphs:
    """Records work on CUDA as a graph of kernels, which are then launched together."""

    def plainly(self, work: Work) -> None:
        """Beside the stream of everything else, as torch asks for before a recording."""
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(here)
        with torch.cuda.stream(beside), warnings.catch_warnings():
            # An optimizer that can be recorded wonders when it is not.
            warnings.filterwarnings("ignore", message=".*capturable=True.*", category=UserWarning)
            work()
        here.wait_stream(beside)

    def record(self, work: Work) -> Work:
        """The kernels only; nothing runs yet."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay
