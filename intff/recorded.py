"""A training step that is recorded once and replayed: a GPU then runs all of its kernels at one word."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

_RECORDING = Lock()  # torch waits for the whole device before it records, which must not record just then
_PLAIN_CALLS = 3  # of each shape first, as torch asks for: they make what a step makes only once

Step = Callable[..., None]
"""Works in place, and reads nothing back."""
Take = Callable[..., None]
"""Takes a step with its inputs; it does not keep the step, whose owner keeps it: neither would ever be freed."""
Work = Callable[[], None]


def plainly(step: Step, *inputs: Tensor) -> None:
    """Take a step without recording it."""
    step(*inputs)


class Recorder(Protocol):
    """What can record."""

    def plainly(self, work: Work) -> None:
        """Do work that will be recorded later."""

    def record(self, work: Work) -> Work:
        """Prepare to repeat work, each time in the same memory; only the returned callable does it."""


class Recorded:
    """Takes one step again and again: it is recorded once for each shape of its inputs, and replayed from then on.

    Args:
        recorder: of CUDA graphs, unless told otherwise.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder or _CudaGraphs()
        self._shapes: dict[tuple[torch.Size, ...], _Shape] = {}

    def __call__(self, step: Step, *inputs: Tensor) -> None:
        """Take the step, always the same one; the inputs may be other tensors each time."""
        known = self._shapes.setdefault(tuple(given.shape for given in inputs), _Shape())
        if known.plain_calls < _PLAIN_CALLS:
            known.plain_calls += 1
            self._recorder.plainly(lambda: step(*inputs))
            return
        if known.replay is None:
            own = [given.clone() for given in inputs]
            known.inputs = own
            known.replay = self._recorder.record(lambda: step(*own))
        for kept, given in zip(known.inputs, inputs, strict=True):
            kept.copy_(given)
        known.replay()


@dataclass
class _Shape:
    """What is known of the inputs of one shape."""

    plain_calls: int = 0
    replay: Work | None = None
    inputs: list[Tensor] = field(default_factory=list)
    """Where the replay reads"""


class _CudaGraphs:
    """Records work on CUDA as graphs of kernels, which are then launched together.

    All on one stream of its own, which torch keeps a workspace for, and in one pool of memory: no graph needs what
    another one has left there.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def plainly(self, work: Work) -> None:
        """Beside the stream of everything else, as torch asks for before a recording."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """The kernels only; nothing runs yet."""
        graph = torch.cuda.CUDAGraph()
        with _RECORDING:
            collects = gc.isenabled()
            gc.disable()  # an earlier run's graph that is collected during a recording would break it
            try:
                # Of this thread alone: another one may train beside it.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    work()
            finally:
                if collects:
                    gc.enable()
        return graph.replay
