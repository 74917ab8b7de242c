"""Which queues this worker serves, found without holding a GPU in the parent process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Sequence

from store.queue import CPU, GPU


def has_cuda() -> bool:
    """Whether torch, in a process of its own, sees a CUDA device.

    The parent of the pool lives as long as the worker: asking CUDA there would pin a context
    (hundreds of megabytes of GPU memory) that nothing uses, and break the children.
    """
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False  # no driver: no need to pay for a torch import
    question = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    answer = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", question], check=False, capture_output=True
    )
    return answer.returncode == 0


def served_queues(configured: Sequence[str]) -> list[str]:
    """The configured queues, or `cpu`, and `gpu` beside it where there is one."""
    if configured:
        return list(configured)
    return [CPU, GPU] if has_cuda() else [CPU]


def device_name(queues: Sequence[str]) -> str:
    """What this worker trains on, for the people who look at the list of workers."""
    return f"cuda, {platform.node()}" if GPU in queues else f"cpu, {os.cpu_count()} cores, {platform.node()}"
