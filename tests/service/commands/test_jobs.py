"""`intff jobs` against a running application: words for people, JSON for programs, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from service.commands.jobs import jobs
from service.lock import LOCK, HomeLock
from store import queries, tables
from store.database import Sessions

SMALL = ("--dataset", "digits", "--architecture", "64,(8),(4)")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The commands see no database; one kind is enough."""
    return f"sqlite:///{tmp_path / 'intff.db'}"


@pytest.fixture
def intff(client: httpx.Client) -> Callable[..., Result]:
    """Run `intff jobs` with these arguments, towards the application."""

    def run(*arguments: str, given: str | None = None) -> Result:
        return CliRunner().invoke(jobs, arguments, input=given, env={"INTFF_URL": str(client.base_url)})

    return run


def objects(result: Result) -> list[dict[str, Any]]:
    """Standard output as JSON, one object a line."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def ended(db: Sessions, make_job: Callable[..., tables.Job], make_model: Callable[..., str]) -> dict[str, str]:
    """The ids of a job that succeeded, one that failed and one that was cancelled."""
    make_model(name="good")
    failed, cancelled = make_job(name="bad").id, make_job(name="gone").id
    with db.begin() as session:
        claim = queries.claim(session, failed, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        queries.fail(session, claim, code="diverged", message="the loss became NaN")
        queries.request_cancel(session, cancelled, owner=tables.NO_OWNER)
        (succeeded,) = queries.list_jobs(session, owner=tables.NO_OWNER, name="good", limit=1).rows
        return {"succeeded": succeeded.id, "failed": failed, "cancelled": cancelled}


def test_submit_prints_the_id_and_nothing_else(intff: Callable[..., Result]) -> None:
    result = intff("submit", *SMALL, "--epochs", "7", "--seed", "3", "--name", "mine", "--priority", "2")
    assert result.exit_code == 0
    (job,) = objects(intff("show", result.stdout.strip(), "--json"))
    assert job["name"] == "mine"
    assert job["spec"]["training"]["epochs"] == 7
    assert job["spec"]["training"]["seed"] == 3
    assert result.stderr == f"follow it with: intff jobs watch {job['id']}\n"


def test_options_override_the_spec_of_a_file_or_of_standard_input(intff: Callable[..., Result], tmp_path: Path) -> None:
    spec = {"dataset": "digits", "architecture": "64,(8),(4)", "training": {"epochs": 5, "seed": 9}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    for file in (str(tmp_path / "spec.json"), "-"):
        (job,) = objects(
            intff("submit", "--spec", file, "--algorithm", "ff", "--epochs", "6", "--json", given=json.dumps(spec))
        )
        training = job["spec"]["training"]
        assert (job["spec"]["algorithm"]["kind"], training["epochs"], training["seed"]) == ("ff", 6, 9)


def test_a_refused_spec_is_wrong_usage_and_names_the_field(intff: Callable[..., Result]) -> None:
    result = intff("submit", "--architecture", "784,(200")
    assert result.exit_code == 2
    assert "spec.architecture" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_list_is_newest_first_in_columns_or_in_json(intff: Callable[..., Result], ended: dict[str, str]) -> None:
    lines = intff("list").stdout.splitlines()
    assert lines[0].split() == ["job", "status", "progress", "accuracy", "created", "name"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [ended["cancelled"], "cancelled"],
        [ended["failed"], "failed"],
        [ended["succeeded"], "succeeded"],
    ]
    assert "50.00 %" in lines[3]
    assert [job["id"] for job in objects(intff("list", "--limit", "1", "--json"))] == [ended["cancelled"]]
    assert [job["id"] for job in objects(intff("list", "--status", "failed", "--json"))] == [ended["failed"]]
    assert intff("list", "--name", "nobody").stdout.split() == lines[0].split()


def test_show_tells_people_what_is_known(intff: Callable[..., Result], ended: dict[str, str]) -> None:
    good = intff("show", ended["succeeded"]).stdout
    assert "test accuracy  50.00 %" in good
    assert "architecture   64,(8),(4)" in good
    bad = intff("show", ended["failed"]).stdout
    assert "error         diverged: the loss became NaN" in bad
    assert "test accuracy" not in bad


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        ("succeeded", 0, ""),
        ("failed", 1, "Error: the job failed: diverged: the loss became NaN\n"),
        ("cancelled", 1, "Error: the job was cancelled\n"),
    ],
)
def test_watch_ends_with_the_job_and_its_code(
    intff: Callable[..., Result], ended: dict[str, str], status: str, code: int, says: str
) -> None:
    result = intff("watch", ended[status])
    assert result.exit_code == code
    assert result.stderr.endswith(says)
    assert f"status         {status}" in result.stdout or f"status        {status}" in result.stdout
    *events, last = [json.loads(line) for line in intff("watch", ended[status], "--json").stdout.splitlines()]
    assert {event["event"] for event in events} <= {"status", "progress", "metrics"}
    assert (last["object"], last["id"], last["status"]) == ("job", ended[status], status)


def test_plot_writes_the_figure_in_the_format_of_its_name(
    intff: Callable[..., Result], ended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = ended["succeeded"]
    result = intff("plot", job)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"the figure is in {job}.svg\n")
    assert b"succeeded, test accuracy 50.00 %" in (tmp_path / f"{job}.svg").read_bytes()
    (told,) = objects(intff("plot", job, "--out", "new.PNG", "--json"))
    figure = (tmp_path / "new.PNG").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert told == {"job": job, "file": "new.PNG", "bytes": len(figure)}


@pytest.mark.parametrize("out", ["figure.pdf", "figure", "nowhere/figure.svg", "folder.svg"])
def test_a_figure_that_cannot_be_written_is_wrong_usage(
    intff: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    result = intff("plot", "job_nowhere", "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert out in result.stderr


def test_moves_are_told_and_impossible_ones_fail(intff: Callable[..., Result], ended: dict[str, str]) -> None:
    job = intff("submit", *SMALL).stdout.strip()
    for move, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        result = intff(move, job)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"{job} is {status}\n")
    assert objects(intff("cancel", job, "--json"))[0]["status"] == "cancelled"
    result = intff("pause", ended["succeeded"])
    assert result.exit_code == 1
    assert "succeeded" in result.stderr


def test_a_job_that_is_not_there_is_a_failure_with_a_sentence(intff: Callable[..., Result]) -> None:
    for command in ("show", "watch", "plot", "cancel"):
        result = intff(command, "job_nowhere")
        assert result.exit_code == 1
        assert "job_nowhere" in result.stderr
        assert result.stdout == ""


def test_without_a_service_the_sentence_says_how_to_start_one() -> None:
    result = CliRunner().invoke(jobs, ["list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no service answers at http://127.0.0.1:9 (")
    assert "intff serve" in result.stderr


def test_a_running_job_is_told_to_stop(
    intff: Callable[..., Result], db: Sessions, make_job: Callable[..., tables.Job]
) -> None:
    job = make_job().id
    with db.begin() as session:
        queries.claim(session, job, worker="w", lease_seconds=60, max_attempts=3)
    assert intff("pause", job).stderr == f"{job} is running and will be paused\n"
    assert intff("cancel", job).stderr == f"{job} is running and will be cancelled\n"
    waiting = make_job().id
    assert intff("cancel", waiting).stderr == f"{waiting} is cancelled\n"


def test_without_an_address_this_machines_service_is_asked(client: httpx.Client, tmp_path: Path) -> None:
    def said(**variables: str) -> str:
        return (
            CliRunner(env={"INTFF_HOME": str(tmp_path), "INTFF_URL": None, **variables}).invoke(jobs, ["list"]).output
        )

    assert "no service answers at http://127.0.0.1:9 " in said(INTFF_PORT="9")
    lock = HomeLock(tmp_path / LOCK)
    lock.acquire()
    lock.note(str(client.base_url))
    assert said(INTFF_PORT="9").split() == ["job", "status", "progress", "accuracy", "created", "name"]
    lock.release()
    assert "no service answers at http://127.0.0.1:9 " in said(INTFF_PORT="9")


def test_help_loads_neither_torch_nor_the_client() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from service.commands.jobs import jobs;"
        "assert CliRunner().invoke(jobs, ['submit', '--help']).exit_code == 0;"
        "print({'torch', 'httpx', 'sqlalchemy', 'fastapi', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
