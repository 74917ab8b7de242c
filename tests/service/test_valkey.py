from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from service.valkey import answers, find_server, make_private, server_command, socket_folder


def test_the_private_broker_answers_on_its_socket_and_only_there(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path)
    make_private(folder)
    path = folder / "valkey.sock"
    assert not answers(path)
    command = server_command(find_server(), path, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        deadline = time.monotonic() + 10
        while not answers(path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.terminate()
        assert server.stdout is not None
        said = server.stdout.read()
    assert "Ready to accept connections unix" in said
    assert "connections tcp" not in said
    assert (tmp_path / "appendonlydir").is_dir()
    folder.rmdir()


def test_a_socket_path_fits_whatever_the_depth_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(str(socket_folder(tmp_path / ("deep/" * 60)) / "valkey.sock")) <= 100
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "deep/" * 30)
    assert socket_folder(tmp_path).parent == Path("/tmp")


def test_a_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="mode 0700"):
        make_private(tmp_path / "open")
    make_private(tmp_path / "new")
    make_private(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
