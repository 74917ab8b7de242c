"""After a job's end its published model stays, and every other file of it goes, whoever left it."""

from __future__ import annotations

from pathlib import Path

from intff.spec import read_spec
from store.artifacts import Artifacts
from store.attempts import claim, fail, hand_back, succeed
from store.database import Sessions
from store.jobs import request_cancel, request_pause, submit
from store.leftovers import Ended, find_ended, note_files, note_removed, remove_files
from store.tables import Job

SPEC = read_spec({"dataset": "digits"})


def submitted(db: Sessions) -> Job:
    with db.begin() as session:
        return submit(session, SPEC)


def ended(db: Sessions) -> set[str]:
    with db() as session:
        return {found.job_id for found in find_ended(session, grace_seconds=-1)}


def test_a_job_is_looked_at_once_it_has_ended_until_its_files_are_gone(db: Sessions) -> None:
    failed, paused, untouched = submitted(db), submitted(db), submitted(db)
    with db.begin() as session:
        won = claim(session, failed.id, worker="w", lease_seconds=9, max_attempts=3)
        assert won
        fail(session, won, code="diverged", message="")
        won = claim(session, paused.id, worker="w", lease_seconds=9, max_attempts=3)
        assert won
        request_pause(session, paused.id)
        hand_back(session, won)
        request_cancel(session, untouched.id)
        assert find_ended(session) == []  # the attempt that ended it may still be at it

    assert ended(db) == {failed.id}
    with db.begin() as session:
        note_removed(session, Ended(failed.id, None))
        request_cancel(session, paused.id)
    assert ended(db) == {paused.id}
    with db.begin() as session:
        note_files(session, failed.id)  # by an attempt that had lost the job and wrote on
    assert ended(db) == {failed.id, paused.id}


def test_only_the_published_model_stays(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    for prefix in (
        "jobs/j/attempt-1/checkpoint-3",
        "models/j/attempt-1",
        "models/j/attempt-2",
        "models/j/.x.unfinished",
    ):
        folder = tmp_path / "artifacts" / prefix
        folder.mkdir(parents=True)
        (folder / "file").write_text(prefix)

    remove_files(artifacts, Ended("j", "models/j/attempt-2"))
    left = [str(path.relative_to(tmp_path / "artifacts")) for path in tmp_path.rglob("file")]
    assert left == ["models/j/attempt-2/file"]

    remove_files(artifacts, Ended("j", None))
    remove_files(artifacts, Ended("j", None))
    assert list(tmp_path.rglob("file")) == []


def test_the_model_of_a_job_is_known(db: Sessions) -> None:
    job = submitted(db)
    with db.begin() as session:
        won = claim(session, job.id, worker="w", lease_seconds=9, max_attempts=3)
        assert won
        assert succeed(session, won, manifest={}, prefix="models/j/attempt-1", result={})
    with db() as session:
        assert find_ended(session, grace_seconds=-1) == [Ended(job.id, "models/j/attempt-1")]
