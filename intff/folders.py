"""Atomic creation of folders, which are complete or absent even after a crash."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `target`, and rename it to `target` once its files are synced to disk.

    Args:
        target: must not exist, or be an empty folder that can be replaced; links are followed.

    Raises:
        FileExistsError: `target` exists and is not an empty folder.
        OSError: the folder cannot be created there.
    """
    target = target.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} already exists and is not an empty folder"
        raise FileExistsError(msg)
    if target.is_mount() or target == Path.cwd():
        msg = f"{target} cannot be replaced because it is in use; name a new folder inside it"
        raise OSError(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target.parent)) from error
    filling = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        filling.chmod(0o755)  # mkdtemp's 0700 would hide a model from the process that serves it
        yield filling
        for file in filling.iterdir():
            file.chmod(0o644)  # and safetensors' 0600 would hide its weights
            _sync(file)
        _sync(filling)
        filling.replace(target)  # fails unless the target is absent or an empty folder
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


def require_possible(target: Path) -> None:
    """Check that `new_folder` can create a folder, by trying it without leaving anything behind.

    Raises:
        OSError: it cannot; the message says why.
    """
    above = [folder for folder in target.resolve().parents if not folder.exists()]
    with suppress(_Tried), new_folder(target):
        raise _Tried
    for folder in above:
        folder.rmdir()


class _Tried(Exception):
    """Signals that the folder could be created."""


def sha256(file: Path) -> str:
    """The SHA-256 of a file's contents, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
