"""Which queues this worker serves, determined without holding a GPU in the parent process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Sequence

from store.queue import CPU, GPU


def has_cuda() -> bool:
    """Whether torch, in a separate process, sees a CUDA device.

    The pool's parent process lives as long as the worker: initialising CUDA there would hold an
    unused context (hundreds of megabytes of GPU memory), and break the children.
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
    """The configured queues; by default `cpu`, and `gpu` as well if there is a GPU."""
    if configured:
        return list(configured)
    return [CPU, GPU] if has_cuda() else [CPU]


def device_name(queues: Sequence[str]) -> str:
    """What this worker trains on, for the people who look at the list of workers."""
    return f"cuda, {platform.node()}" if GPU in queues else f"cpu, {os.cpu_count()} cores, {platform.node()}"
