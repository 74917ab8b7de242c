"""The files of jobs that have ended are removed, also when some of them cannot be."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from intff.spec import read_spec
from store.artifacts import Artifacts
from store.attempts import claim, fail
from store.database import connect, sessions
from store.jobs import submit
from store.leftovers import find_ended
from store.tables import Job
from worker.housekeeping import tidy


class Stubborn(Artifacts):
    """A store that does not let go of one job's files."""

    def __init__(self, url: str, job_id: str) -> None:
        super().__init__(url)
        self._job_id = job_id

    def delete_prefix(self, prefix: str) -> None:
        if self._job_id in prefix:
            message = "no permission"
            raise OSError(message)
        super().delete_prefix(prefix)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_files_that_cannot_be_removed_do_not_keep_those_of_other_jobs(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(database_url)
    factory = sessions(engine)
    jobs = []
    for _ in range(3):
        with factory.begin() as session:
            job = submit(session, read_spec({"dataset": "digits"}))
            won = claim(session, job.id, worker="w", lease_seconds=9, max_attempts=3)
            assert won
            fail(session, won, code="diverged", message="")
        jobs.append(job.id)
        folder = tmp_path / "artifacts" / "jobs" / job.id
        folder.mkdir(parents=True)
        (folder / "left").write_text("over")
    monkeypatch.setattr("worker.housekeeping.find_ended", partial(find_ended, grace_seconds=-1))
    monkeypatch.setattr("store.leftovers._AT_ONCE", 1)

    def stuck() -> list[str]:
        with factory() as session:
            return list(session.scalars(select(Job.id).where(Job.has_files)))

    with pytest.raises(OSError, match="no permission"):
        tidy(factory, Stubborn(str(tmp_path / "artifacts"), jobs[0]))
    assert stuck() == [jobs[0]]
    assert [path.name for path in (tmp_path / "artifacts" / "jobs").iterdir()] == [jobs[0]]

    tidy(factory, Artifacts(str(tmp_path / "artifacts")))
    assert stuck() == []
    engine.dispose()
