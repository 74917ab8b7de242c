"""Downloads data set files into the cache from several mirrors, and verifies each before giving it its final name."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tqdm import tqdm

from intff import idx
from intff.datasets.sources import File
from intff.errors import DatasetCorrupt

_CONNECT_SECONDS = 3.0
_READ_SECONDS = 15.0
_PROBE_SECONDS = 5.0  # for all mirrors together, including name resolution, so that a missing network is noticed soon
_STALE_SECONDS = 3600.0
_CHUNK_BYTES = 1 << 16


def download(files: list[File], mirrors: tuple[str, ...], folder: Path, *, progress: bool) -> tuple[str, list[str]]:
    """Download files from the first mirrors that serve valid copies.

    Each file is written under a temporary name, verified, synced, and only then renamed, so
    that several processes can download at once and an interrupted one leaves no incomplete file.

    Args:
        files: the files to download.
        mirrors: base URLs, in order of preference.
        folder: where the files are stored, as `<name>.gz`; created if missing.
        progress: draw a progress bar on standard error.

    Returns:
        The hosts that served the files, or "" if a file is still missing; and the reason why each mirror failed.
    """
    failures: list[str] = []
    hosts: list[str] = []
    for mirror, reason in _probe(mirrors, files[0].name).items():
        if reason:
            failures.append(f"{mirror}: {reason}")
            continue
        try:
            _make(folder)
        except OSError as error:
            failures.append(f"{folder}: cannot be written to ({error.strerror or error})")
            break
        try:
            while files:
                _fetch(files[0], mirror, folder, progress=progress)
                files = files[1:]
                hosts.append(urlsplit(mirror).netloc)
        except (OSError, DatasetCorrupt) as error:
            failures.append(f"{mirror}: {files[0].name}.gz: {_reason(error)}")
        else:
            return " and ".join(dict.fromkeys(hosts)), failures
    return "", failures


def _probe(mirrors: tuple[str, ...], name: str) -> dict[str, str | None]:
    """Query all mirrors in parallel; maps each to the reason why it cannot be used, or None."""
    answers: dict[str, str | None] = dict.fromkeys(mirrors, f"no answer within {_PROBE_SECONDS:.0f} s")

    def ask(mirror: str) -> None:
        try:
            offered = _downloader()(f"{mirror}{name}.gz", os.devnull, None, check_only=True)
            answers[mirror] = None if offered else "does not offer the files"
        except OSError as error:
            answers[mirror] = _reason(error)

    # Daemon threads, because name resolution without a network may block long after the deadline.
    asking = [threading.Thread(target=ask, args=(mirror,), daemon=True) for mirror in mirrors]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + _PROBE_SECONDS
    for thread in asking:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(answers)


def _fetch(file: File, mirror: str, folder: Path, *, progress: bool) -> None:
    with _part(folder, file.name) as part:
        # The server sends the total; until then it must be nonzero, since the downloader tests the bar's truth value.
        with tqdm(total=1, desc=file.name, unit="B", unit_scale=True, disable=not progress) as bar:
            _downloader(bar)(f"{mirror}{file.name}.gz", str(part), None)
        raw = part.read_bytes()
        contents = idx.contents(raw, file.shape)
        idx.parse(contents, file.shape)
        if not file.is_verified(raw, contents):
            msg = "its checksum differs from the published one"
            raise DatasetCorrupt(msg)
        _sync(part)
        part.replace(folder / f"{file.name}.gz")
    _sync(folder)


def _downloader(bar: Any = False) -> Any:  # noqa: ANN401 -- pooch is untyped
    import pooch  # noqa: PLC0415 -- most runs have their files and need no downloader

    return pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=(_CONNECT_SECONDS, _READ_SECONDS))


@contextlib.contextmanager
def _part(folder: Path, name: str) -> Iterator[Path]:
    part = folder / f".{name}.{uuid4().hex}.part"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """Create the folder, and remove old partial files of killed processes; those of running ones are recent."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """A short reason for an error whose own message is long."""
    if isinstance(error, DatasetCorrupt):
        return str(error)
    text = str(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    for sign, words in (
        ("NameResolution", "its host name cannot be resolved"),
        ("timed out", "no answer in time"),
        ("refused", "connection refused"),
        ("SSL", "no secure connection"),
        ("Proxy", "blocked by the proxy"),
    ):
        if sign in text:
            return words
    return getattr(error, "strerror", None) or type(error).__name__
