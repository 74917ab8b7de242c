"""The files of models and checkpoints, in a local folder or behind any fsspec URL, each known by its SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypedDict, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from intff.errors import MissingExtra
from store.errors import ArtifactCorrupt, ArtifactMissing, SettingsError

_CHUNK = 2**20


class FileRecord(TypedDict):
    """What is recorded about a file, to tell later whether it is unchanged."""

    sha256: str
    bytes: int


class Artifacts:
    """Folders of files under prefixes such as `jobs/job_.../2/model`.

    A prefix is written once, by the one attempt that it belongs to. In a local folder it is written
    atomically, and is on the disk when the call returns; elsewhere it is not used until the database
    refers to it.

    Args:
        url: a local folder, or a URL that fsspec knows (`s3://bucket/path`).

    Raises:
        SettingsError: fsspec does not know the URL.
        MissingExtra: the packages for this kind of URL are not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            # Listings are not cached: another process writes what this one reads.
            files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            scheme, separator, _ = url.partition("://")  # the rest may hold a password
            msg = f"artifacts at {scheme + separator!r} need another package ({error}); for S3: pip install 'intff[s3]'"
            raise MissingExtra(msg) from error
        except ValueError as error:
            scheme, separator, _ = url.partition("://")  # the rest may hold a password
            msg = f"artifacts must be a folder or a URL that fsspec knows, got {scheme + separator!r} ({error})"
            raise SettingsError(msg) from error
        self._files: Any = files
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(files, LocalFileSystem)

    def put_folder(self, local: Path, prefix: str) -> dict[str, FileRecord]:
        """Store every file of a folder, and return a record of each.

        Args:
            local: a folder of files, without subfolders.
            prefix: where to put them; anything left there by an earlier try is replaced.
        """
        target = self._path(prefix)
        sources = sorted(local.iterdir())
        if self._is_local:
            with _appearing(Path(target), durable=True) as unfinished:
                return {source.name: _copy(source, unfinished / source.name) for source in sources}
        self.delete_prefix(prefix)
        records = {}
        for source in sources:
            with source.open("rb") as reader, self._files.open(f"{target}/{source.name}", "wb") as writer:
                records[source.name] = _pump(reader, writer)
        return records

    def fetch_folder(self, prefix: str, local: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Copy files into a new local folder, which appears only once every file matches its record.

        Args:
            prefix: where they are.
            local: the folder to create; an existing one has already been fetched, and is left alone.
            files: the record of each wanted file, by its name.

        Raises:
            ArtifactMissing: a file does not exist.
            ArtifactCorrupt: a file does not match its record.
            OSError: the store itself is missing.
        """
        if local.exists():
            return
        if self._is_local and not Path(self._root).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "the artifacts folder does not exist", self._root)
        with _appearing(local, durable=False) as unfinished:
            for name, record in files.items():
                with self.open(f"{prefix}/{name}") as reader, (unfinished / name).open("wb") as writer:
                    found = _pump(reader, writer)
                if found["sha256"] != record["sha256"]:
                    msg = f"{prefix}/{name} has the SHA-256 {found['sha256']}, but {record['sha256']} was recorded"
                    raise ArtifactCorrupt(msg)

    def open(self, path: str) -> BinaryIO:
        """Open a stored file for reading.

        Raises:
            ArtifactMissing: it does not exist.
        """
        try:
            return cast("BinaryIO", self._files.open(self._path(path), "rb"))
        except (FileNotFoundError, IsADirectoryError) as error:
            msg = f"there is no file {path!r} among the artifacts"
            raise ArtifactMissing(msg) from error

    def exists(self, path: str) -> bool:
        """Whether a file or a prefix exists."""
        return bool(self._files.exists(self._path(path)))

    def names(self, prefix: str) -> list[str]:
        """The names directly under a prefix, including unfinished folders."""
        try:
            found = self._files.ls(self._path(prefix), detail=False)
        except FileNotFoundError:
            return []
        return [PurePosixPath(path).name for path in found]

    def delete_prefix(self, prefix: str) -> None:
        """Remove a prefix with all its files; a missing one is not an error."""
        try:
            self._files.rm(self._path(prefix), recursive=True)
        except FileNotFoundError:
            return

    def _path(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
            msg = f"an artifact's path must be relative and stay inside the store, got {path!r}"
            raise ValueError(msg)
        return "/".join([self._root, *parts])


@contextmanager
def _appearing(folder: Path, *, durable: bool) -> Iterator[Path]:
    """Fill a folder next to the wanted one, then rename it; after an error nothing is left behind."""
    _make(folder.parent, durable=durable)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".unfinished", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's 0700 would hide it from the API, which may run as another user
        if durable:
            for file in unfinished.iterdir():
                _sync(file)
            _sync(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
        _rename(unfinished, folder, taken=None if durable else folder.exists)
        if durable:
            _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _rename(unfinished: Path, folder: Path, taken: Callable[[], bool] | None) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        if taken is None or not taken():
            raise


def _make(folder: Path, *, durable: bool) -> None:
    """Create a folder and its parents; if durable, the parent of each new folder is synced."""
    if folder.is_dir():
        return
    _make(folder.parent, durable=durable)
    folder.mkdir(exist_ok=True)
    if durable:
        _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(source: Path, target: Path) -> FileRecord:
    with source.open("rb") as reader, target.open("wb") as writer:
        return _pump(reader, writer)


def _pump(reader: BinaryIO, writer: BinaryIO) -> FileRecord:
    digest = hashlib.sha256()
    size = 0
    while chunk := reader.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        writer.write(chunk)
    return FileRecord(sha256=digest.hexdigest(), bytes=size)
