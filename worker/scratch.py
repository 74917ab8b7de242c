"""Where an attempt keeps temporary files: a locked folder, removed with the attempt, or swept after a crash."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """A fresh folder under `root`, removed at the end.

    A lock on the folder itself shows that its process is alive: the kernel releases it with the
    process, however that ends, and unlike a process id it cannot be reused by another.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Held while creating and locking, so that nobody sweeps the folder in between.
    with _locked(root):
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep_scratch(root: Path) -> int:
    """Remove the folders whose process is gone; returns how many there were."""
    if not root.is_dir():
        return 0
    swept = 0
    with _locked(root):
        for folder in root.iterdir():
            if folder.is_dir() and not _is_locked(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
    return swept


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_locked(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
