"""The disk fills up in the middle of a job: the checkpoint before stays valid, and the job says what happened."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store.artifacts import Artifacts
from store.statuses import JobStatus
from tests.faults.installation import Installation

if TYPE_CHECKING:
    from tests.faults.conftest import Survived
    from tests.faults.servers import PrivateValkey

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def installation(disk: Path, database_url: str, valkey: PrivateValkey) -> Iterator[Installation]:
    made = Installation(disk / "home", database_url, valkey.url)
    yield made
    made.close()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize))
    assert os.statvfs(disk).f_bavail == 0
    return filler


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_as_it_was(
    disk: Path, tmp_path: Path, survived: Survived
) -> None:
    artifacts = Artifacts(str(disk / "artifacts"))
    source = tmp_path / "checkpoint"
    source.mkdir()
    (source / "state").write_bytes(os.urandom(1_000_000))
    records = artifacts.put_folder(source, "jobs/j/attempt-1/checkpoint-1")
    filler = fill(disk)
    (source / "state").write_bytes(os.urandom(1_000_000))

    with pytest.raises(OSError, match="No space left") as full:
        artifacts.put_folder(source, "jobs/j/attempt-1/checkpoint-2")

    assert full.value.errno == errno.ENOSPC
    artifacts.fetch_folder("jobs/j/attempt-1/checkpoint-1", tmp_path / "fetched", records)
    content = (tmp_path / "fetched" / "state").read_bytes()
    assert hashlib.sha256(content).hexdigest() == records["state"]["sha256"]
    assert [path.name for path in (disk / "artifacts/jobs/j/attempt-1").iterdir()] == ["checkpoint-1"]
    filler.unlink()
    artifacts.put_folder(source, "jobs/j/attempt-1/checkpoint-2")
    survived("disk full while a checkpoint is stored")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_job_whose_disk_is_full(disk: Path, installation: Installation, survived: Survived) -> None:
    installation.start()
    job = installation.submit(9000)
    installation.wait_for(job, lambda now: now.checkpoint)

    filler = fill(disk)
    failed = installation.wait_for(job, lambda now: now.status is JobStatus.FAILED)

    assert failed.error_code == "disk_full"
    assert failed.error_message is not None
    assert "disk space" in failed.error_message
    filler.unlink()
    installation.wait_until_tidy()
    installation.wait_until_succeeded(installation.submit(1))
    survived("disk full in the middle of a job", figure="failed with disk_full; the next job succeeded")
