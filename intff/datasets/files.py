"""Finds a data set's IDX files in the user's folder, in the cache, or by download."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intff import idx
from intff.datasets.download import download
from intff.datasets.sources import SOURCES, File, Kind, kinds_of
from intff.errors import DatasetCorrupt, DatasetUnavailable

Arrays = list[NDArray[np.uint8]]


def load_files(kind: Kind, data_dir: Path | None, *, progress: bool) -> tuple[Arrays, str]:
    """Load training images and labels, test images and labels, and a short description of their source.

    Raises:
        DatasetCorrupt: the contents of a file in the user's folder are wrong.
        DatasetUnavailable: the files were not found and could not be downloaded.
    """
    files = SOURCES[kind].files
    looked: list[str] = []
    for folder, is_shared in _user_folders(kind, data_dir):
        found = [_find(folder, file) for file in files]
        paths = [path for path in found if path]
        if len(paths) == len(files) and not (is_shared and _is_another(paths, kind)):
            return [_read_own(path, file) for path, file in zip(paths, files, strict=True)], f"files in {folder}"
        looked.append(_missing(folder, files, found))
    cache = cache_folder(kind)
    cached = {file: _read_cached(cache, file) for file in files}
    absent = [file for file, array in cached.items() if array is None]
    source = f"cache {cache}"
    if absent:
        looked.append(f"{cache}: {_cache_state(cache, absent)}")
        hosts, failures = download(absent, SOURCES[kind].mirrors, cache, progress=progress)
        if not hosts:
            raise DatasetUnavailable(_unavailable(kind, looked, failures))
        source = f"downloaded from {hosts}"
        cached.update((file, _read_cached(cache, file)) for file in absent)
    arrays = [array for array in cached.values() if array is not None]
    if len(arrays) != len(files):
        msg = f"the files in {cache} changed while they were being read; delete that folder and try again"
        raise DatasetUnavailable(msg)
    return arrays, source


def cache_folder(kind: Kind) -> Path:
    """The folder for downloads: `data/<kind>` in INTFF_HOME, or in ~/.intff."""
    home = os.environ.get("INTFF_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".intff") / "data" / kind


def _user_folders(kind: Kind, data_dir: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yield the folders to search, and whether each may contain another data set's files instead."""
    given = data_dir or os.environ.get("INTFF_DATA_DIR")
    if not given:
        return
    top = Path(given).expanduser()
    yield top / kind, False
    if "_" in kind:
        yield top / kind.replace("_", "-"), False
    yield top, True


def _find(folder: Path, file: File) -> Path | None:
    paths = [folder / file.name, folder / f"{file.name}.gz"]
    with contextlib.suppress(PermissionError):  # treat a folder without access as empty
        return next((path for path in paths if path.is_file()), None)
    return None


def _is_another(paths: list[Path], kind: Kind) -> bool:
    """Whether the smallest file belongs to another data set, since all data sets use the same file names."""
    smallest = min(paths, key=lambda path: path.stat().st_size)
    shape = next(file.shape for file in SOURCES[kind].files if smallest.name.startswith(file.name))
    try:
        kinds = set(kinds_of(idx.contents(smallest.read_bytes(), shape)))
    except (OSError, DatasetCorrupt):
        return False  # reading it later reports the error
    return bool(kinds) and kind not in kinds


def _read_own(path: Path, file: File) -> NDArray[np.uint8]:
    try:
        array, verified = _read(path, file)
    except (OSError, DatasetCorrupt) as error:
        msg = f"{path} cannot be used: {error}; replace it with the original, or remove it to have it downloaded"
        raise DatasetCorrupt(msg) from error
    if verified is False:
        msg = (
            f"{path} is not the published file: expected contents with the checksum {file.digest}; "
            "replace it with the original, or remove it to have it downloaded"
        )
        raise DatasetCorrupt(msg)
    return array


def _read_cached(cache: Path, file: File) -> NDArray[np.uint8] | None:
    """Read a cached file; None if it is missing or damaged, so that it is downloaded again."""
    try:
        array, verified = _read(cache / f"{file.name}.gz", file)
    except (OSError, DatasetCorrupt):
        return None
    return array if verified else None


def _read(path: Path, file: File) -> tuple[NDArray[np.uint8], bool | None]:
    raw = path.read_bytes()
    data = idx.contents(raw, file.shape)
    return idx.parse(data, file.shape), file.is_verified(raw, data)


def _missing(folder: Path, files: tuple[File, ...], found: list[Path | None]) -> str:
    absent = [file for file, path in zip(files, found, strict=True) if path is None]
    if not folder.is_dir():
        return f"{folder}: no such folder"
    return f"{folder}: lacks {_names(absent)}" if absent else f"{folder}: contains another data set's files"


def _cache_state(cache: Path, absent: list[File]) -> str:
    damaged = [file for file in absent if (cache / f"{file.name}.gz").exists()]
    missing = [file for file in absent if file not in damaged]
    parts = [f"lacks {_names(missing)}" if missing else "", f"damaged: {_names(damaged)}" if damaged else ""]
    return "; ".join(filter(None, parts))


def _names(files: list[File]) -> str:
    return ", ".join(file.name for file in files)


def _unavailable(kind: Kind, looked: list[str], failures: list[str]) -> str:
    return "\n".join(
        [
            f"no copy of {kind} was found, and it could not be downloaded",
            "looked in:",
            *(f"  {place}" for place in looked),
            "tried:",
            *(f"  {failure}" for failure in failures),
            (
                f"set INTFF_DATA_DIR to a folder that contains {kind}/ with the four IDX files, gzipped or not; "
                "or use the data set digits, which needs no download"
            ),
        ]
    )
