"""Records a training step once as a CUDA graph and replays it, so that one launch runs all of its kernels."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

_RECORDING = Lock()  # torch synchronises the device before it records, which is forbidden during another recording
_PLAIN_CALLS = 3  # warm-up calls for each shape, as torch requires: they create what a step creates only once

Step = Callable[..., None]
"""Works in place, without copying results back to the CPU."""
Take = Callable[..., None]
"""Executes a step with its inputs. It must not store the step, whose owner stores it: a cycle would not be freed."""
Work = Callable[[], None]


def plainly(step: Step, *inputs: Tensor) -> None:
    """Execute a step without recording it."""
    step(*inputs)


class Recorder(Protocol):
    """Records work and returns a function that replays it."""

    def plainly(self, work: Work) -> None:
        """Run work that will be recorded later."""

    def record(self, work: Work) -> Work:
        """Record work without running it; the returned function runs it, each time in the same memory."""


class Recorded:
    """Executes one step repeatedly: records it once for each set of input shapes, and then replays the recording.

    Args:
        recorder: records CUDA graphs by default.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder or _CudaGraphs()
        self._shapes: dict[tuple[torch.Size, ...], _Shape] = {}

    def __call__(self, step: Step, *inputs: Tensor) -> None:
        """Execute the step, which must always be the same one; the inputs may be different tensors each time."""
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
    """The recording for one set of input shapes."""

    plain_calls: int = 0
    replay: Work | None = None
    inputs: list[Tensor] = field(default_factory=list)
    """The tensors that the recording reads"""


class _CudaGraphs:
    """Records work as CUDA graphs, whose kernels are launched together.

    All graphs use one side stream, for which torch keeps one workspace, and share one memory pool, since no graph
    needs data left by another.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def plainly(self, work: Work) -> None:
        """Run work on the side stream, as torch requires before a recording."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
        """Record the kernels without running them."""
        graph = torch.cuda.CUDAGraph()
        with _RECORDING:
            collects = gc.isenabled()
            gc.disable()  # collecting the graph of an earlier run would break the recording
            try:
                # Restricted to this thread, since another one may be training.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    work()
            finally:
                if collects:
                    gc.enable()
        return graph.replay
