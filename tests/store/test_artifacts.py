"""Stored files arrive whole or not at all, and a changed one is found out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from intff.errors import MissingExtra
from store.artifacts import Artifacts
from store.errors import ArtifactCorrupt, ArtifactMissing, SettingsError

# sha256sum of the three bytes "abc", from FIPS 180-2.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        root = f"/{uuid4().hex}"
        yield f"memory:/{root}"
        fsspec.filesystem("memory").rm(root, recursive=True)
    else:
        (tmp_path / "store").mkdir()
        yield f"file://{tmp_path / 'store'}" if request.param == "file" else str(tmp_path / "store")


@pytest.fixture
def artifacts(url: str) -> Artifacts:
    store = Artifacts(url)
    fsspec.core.url_to_fs(url)[0].makedirs(fsspec.core.url_to_fs(url)[1], exist_ok=True)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"abc")
    (folder / "large").write_bytes(b"\x07" * 3_000_000)
    return folder


def test_what_was_put_comes_back_with_its_hash_and_size(artifacts: Artifacts, folder: Path, tmp_path: Path) -> None:
    records = artifacts.put_folder(folder, "jobs/j/1/model")
    assert records["weights"] == {"sha256": ABC, "bytes": 3}
    assert records["large"] == {"sha256": hashlib.sha256(b"\x07" * 3_000_000).hexdigest(), "bytes": 3_000_000}
    artifacts.fetch_folder("jobs/j/1/model", tmp_path / "back", records)
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        "weights": b"abc",
        "large": b"\x07" * 3_000_000,
    }
    with artifacts.open("jobs/j/1/model/weights") as file:
        assert file.read() == b"abc"


def test_a_changed_file_is_found_out_and_nothing_is_left_behind(
    artifacts: Artifacts, url: str, folder: Path, tmp_path: Path
) -> None:
    records = artifacts.put_folder(folder, "m")
    files, root = fsspec.core.url_to_fs(url)
    with files.open(f"{root}/m/weights", "wb") as file:
        file.write(b"abd")
    (tmp_path / "cache").mkdir()
    with pytest.raises(ArtifactCorrupt, match=f"m/weights has the SHA-256 .* but {ABC}"):
        artifacts.fetch_folder("m", tmp_path / "cache" / "m", records)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_is_said_to_be_missing_and_nothing_is_left_behind(
    artifacts: Artifacts, folder: Path, tmp_path: Path
) -> None:
    records = artifacts.put_folder(folder, "m")
    (tmp_path / "cache").mkdir()
    with pytest.raises(ArtifactMissing, match="m/onnx"):
        artifacts.fetch_folder("m", tmp_path / "cache" / "m", {**records, "onnx": {"sha256": ABC}})
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(ArtifactMissing):
        artifacts.open("m")


def test_putting_again_replaces_what_an_earlier_try_left(artifacts: Artifacts, folder: Path) -> None:
    artifacts.put_folder(folder, "m")
    (folder / "large").unlink()
    (folder / "weights").write_bytes(b"new")
    artifacts.put_folder(folder, "m")
    assert not artifacts.exists("m/large")
    with artifacts.open("m/weights") as file:
        assert file.read() == b"new"


def test_a_deleted_prefix_is_gone_and_deleting_it_again_is_harmless(artifacts: Artifacts, folder: Path) -> None:
    artifacts.put_folder(folder, "jobs/j/1")
    artifacts.put_folder(folder, "jobs/j/2")
    artifacts.delete_prefix("jobs/j/1")
    artifacts.delete_prefix("jobs/j/1")
    assert [artifacts.exists(f"jobs/j/{attempt}") for attempt in (1, 2)] == [False, True]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", "a\0b"])
def test_no_path_leads_out_of_the_store(artifacts: Artifacts, path: str) -> None:
    with pytest.raises(ValueError, match="stay inside the store"):
        artifacts.open(path)
    with pytest.raises(ValueError, match="stay inside the store"):
        artifacts.delete_prefix(path)


def test_a_put_that_breaks_off_leaves_what_was_there(tmp_path: Path, folder: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "store"))
    artifacts.put_folder(folder, "m")
    (folder / "zzz").mkdir()  # not a file: copying breaks off here, after the others
    (folder / "weights").write_bytes(b"new")
    with pytest.raises(IsADirectoryError):
        artifacts.put_folder(folder, "m")
    assert (tmp_path / "store" / "m" / "weights").read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["m"]


def test_a_folder_that_was_fetched_already_stays_as_it_is(tmp_path: Path, folder: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "store"))
    records = artifacts.put_folder(folder, "m")
    artifacts.fetch_folder("m", tmp_path / "back", records)
    artifacts.delete_prefix("m")
    artifacts.fetch_folder("m", tmp_path / "back", records)
    assert (tmp_path / "back" / "weights").read_bytes() == b"abc"


def test_a_url_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="carrier-pigeon"):
        Artifacts("carrier-pigeon://coop")


def test_a_url_whose_packages_are_missing_names_them() -> None:
    with pytest.raises(MissingExtra, match="gcsfs"):
        Artifacts("gs://bucket/models")
