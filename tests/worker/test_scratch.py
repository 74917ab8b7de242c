from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worker.scratch import scratch_folder, sweep_scratch


def test_a_scratch_folder_is_gone_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "scratch", "job_1-1") as folder:
        (folder / "file").write_text("content")
        assert folder.name.startswith("job_1-1-")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_sweep_spares_the_folder_of_a_living_attempt(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "job_1-1") as folder:
        assert sweep_scratch(tmp_path) == 0
        assert folder.is_dir()


def test_a_sweep_removes_the_folder_of_a_dead_process(tmp_path: Path) -> None:
    die_inside = (
        "import os, pathlib, sys\n"
        "from worker.scratch import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1]), 'job_1-1'):\n"
        "    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", die_inside, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1

    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_of_a_place_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    assert sweep_scratch(tmp_path / "nowhere") == 0
