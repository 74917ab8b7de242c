"""Folders of files that are either wholly there or not there at all, also after a crash."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a temporary folder beside `target`, and give it that name once all is on the disk.

    Args:
        target: must not exist, or be an empty folder.

    Raises:
        FileExistsError: `target` already holds something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        msg = f"{target} already exists and is not an empty folder"
        raise FileExistsError(msg)
    target.parent.mkdir(parents=True, exist_ok=True)
    filling = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        filling.chmod(0o755)  # mkdtemp's 0700 would hide a model from the process that serves it
        yield filling
        for file in filling.iterdir():
            _sync(file)
        _sync(filling)
        filling.replace(target)  # an empty folder may be replaced, a full one not
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise


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
