"""The scripts of a fresh machine: which Python they take, when they install, and what they say when something fails."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("environment.py", "find-python", "checks.py", "quickstart", "test")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with these scripts, and nothing installed."""
    root = tmp_path / "a project"
    (root / "scripts").mkdir(parents=True)
    for script in SCRIPTS:
        shutil.copy(ROOT / "scripts" / script, root / "scripts")
    (root / "constraints.txt").write_text("pip==26.3\nsetuptools==84.2.1\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\n[project.optional-dependencies]\nall = []\ndev = []\n'
    )
    return root


def _run(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=200
    )


def _module(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", project / "scripts" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pretend_installed(project: Path, extras: str) -> None:
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    stamp = {"fingerprint": _module(project)._fingerprint(), "extras": extras}
    (project / ".venv" / "installed.json").write_text(json.dumps(stamp))


def test_the_python_that_is_found_is_new_enough(project: Path) -> None:
    found = _run([project / "scripts" / "find-python"])
    assert found.returncode == 0
    assert _run([found.stdout.strip(), "-c", "import sys; assert sys.version_info >= (3, 11)"]).returncode == 0


def test_the_projects_own_python_is_preferred(project: Path) -> None:
    _pretend_installed(project, "all")
    found = _run([project / "scripts" / "find-python"])
    assert found.stdout.strip() == f"{project}/.venv/bin/python"


def test_without_a_python_that_is_new_enough_it_says_so(project: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    old = programs / "python3"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.9.2\n')
    old.chmod(0o755)
    for script in ("find-python", "quickstart", "test"):
        answer = _run([project / "scripts" / script], PATH=str(programs))
        assert answer.returncode == 1
        assert answer.stderr == (
            "IntFF needs Python 3.11 or newer, and PATH has Python 3.9.2: "
            "install one from your system's packages or python.org\n"
        )


def test_an_environment_that_is_up_to_date_is_left_alone_at_once(project: Path) -> None:
    _pretend_installed(project, "dev")
    for extras in ("dev", "all"):  # the tests' environment serves the quickstart too
        began = time.monotonic()
        done = _run([sys.executable, project / "scripts" / "environment.py", extras])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml", ".venv/pyvenv.cfg"])
def test_what_is_installed_depends_on_the_pins_the_project_and_the_python(project: Path, changed: str) -> None:
    before = _module(project)._fingerprint()
    (project / ".venv").mkdir()
    with (project / changed).open("a") as file:
        file.write("# changed\n")
    assert _module(project)._fingerprint() != before


def test_unknown_extras_are_wrong_usage(project: Path) -> None:
    done = _run([sys.executable, project / "scripts" / "environment.py", "everything"])
    assert done.returncode == 2
    assert "EXTRAS" in done.stderr


@pytest.mark.slow
def test_a_failed_installation_shows_the_end_of_its_log_and_is_tried_again(project: Path) -> None:
    (project / "constraints.txt").write_text("pip==0.0.1\nsetuptools==84.2.1\n")
    for _ in range(2):
        done = _run([sys.executable, project / "scripts" / "environment.py", "all"], PIP_NO_INDEX="1")
        assert done.returncode == 1
        assert "ERROR: Cannot install pip" in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Installing pip and setuptools: failed; the complete log is ")
        log = Path(last.rpartition(" is ")[2])
        assert "ERROR: Cannot install pip" in log.read_text()
        log.unlink()
        assert not (project / ".venv" / "installed.json").exists()


@pytest.mark.slow
def test_two_at_once_take_turns(project: Path) -> None:
    command = [sys.executable, str(project / "scripts" / "environment.py"), "all"]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "TMPDIR": str(project)}
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert ["Waiting for another process" in text for text in said].count(True) == 1
    assert all("Installing pip and setuptools: failed" in text for text in said)


@pytest.mark.slow
def test_every_check_runs_and_the_failed_ones_are_named(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        "[tool.ruff]\nline-length = 120\n"
        "[tool.mypy]\nfiles = ['wrong.py']\n[tool.importlinter]\nroot_packages = ['wrong']\n"
        "[[tool.importlinter.contracts]]\nname = 'none'\ntype = 'forbidden'\n"
        "source_modules = ['wrong']\nforbidden_modules = ['json']\ninclude_external_packages = true\n"
    )
    (project / "wrong.py").write_text('import json\n\nx: int = ""\n')
    (project / "test_right.py").write_text("def test_right() -> None:\n    assert True\n")
    done = _run([sys.executable, project / "scripts" / "checks.py", "-p", "no:randomly"])
    assert done.returncode == 1
    headings = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert headings == ["== ruff check", "== ruff format", "== mypy", "== import contracts", "== pytest"]
    assert "1 passed" in done.stdout
    assert done.stderr.rstrip().endswith("FAILED: ruff check, mypy, import contracts")


def test_the_quickstart_tells_its_options() -> None:
    command = [sys.executable, "-P", "-m", "scripts.demonstration", "--help"]
    done = _run([*command], PYTHONPATH=str(ROOT))
    assert done.returncode == 0
    assert "--once" in done.stdout
