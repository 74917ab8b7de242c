import errno
import hashlib
import os
from pathlib import Path

import pytest

from intff.folders import new_folder, require_possible, sha256


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gets_its_name_with_all_its_files(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with new_folder(target) as filling:
        (filling / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert _left(target.parent) == ["target"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_may_be_filled_and_a_full_one_not(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with new_folder(target) as filling:
        (filling / "a").write_text("1")
    with pytest.raises(FileExistsError, match="is not an empty folder"), new_folder(target):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is not an empty folder"), new_folder(tmp_path / "file"):
        pass
    assert _left(tmp_path) == ["file", "target"]
    assert (target / "a").read_text() == "1"


def test_a_link_stands_for_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, leads_to in (("link", "empty"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / leads_to)
        with new_folder(tmp_path / name) as filling:
            (filling / "a").write_text("1")
        assert (tmp_path / leads_to / "a").read_text() == "1"
    assert _left(tmp_path) == ["dangling", "empty", "link", "nowhere"]


def test_everybody_who_may_enter_can_read_the_files(tmp_path: Path) -> None:
    with new_folder(tmp_path / "target") as filling:
        (filling / "a").touch(mode=0o600)
    assert (tmp_path / "target" / "a").stat().st_mode & 0o777 == 0o644


def test_what_is_possible_is_found_out_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_possible(tmp_path / "deep" / "er" / "target")
    (tmp_path / "empty").mkdir()
    require_possible(tmp_path / "empty")
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path / "empty")
    for impossible in (Path(), Path("/proc"), tmp_path / "file" / "below", tmp_path / ("x" * 250)):
        with pytest.raises(OSError, match=r"because it is in use|not an empty|Not a directory|File name too long"):
            require_possible(impossible)
    assert _left(tmp_path) == ["empty", "file"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_whatever_interrupts_the_filling_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def interrupted() -> None:
        with new_folder(tmp_path / "target") as filling:
            (filling / "a").write_text("1")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert _left(tmp_path) == []


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_disk_that_fails_to_sync_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The two files and the folder are synced before the name is given; each of these may fail."""
    calls = iter(range(100))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "input/output error")
        real(descriptor)

    def fill() -> None:
        with new_folder(tmp_path / "target") as filling:
            (filling / "a").write_text("1")
            (filling / "b").write_text("2")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="input/output error"):
        fill()
    assert _left(tmp_path) == []
    fill()
    assert _left(tmp_path / "target") == ["a", "b"]


def test_every_file_and_both_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with new_folder(tmp_path / "target") as filling:
        (filling / "a").write_text("1")
    target = tmp_path / "target"
    assert synced == [path.stat().st_ino for path in (target / "a", target, tmp_path)]


def test_the_hash_is_that_of_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
