"""`intff keys` beside a running service or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.commands.keys import keys


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("INTFF_DATABASE_URL", raising=False)
    return tmp_path / "home"


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(keys, [*arguments, "--home", str(home)])


def test_a_key_is_printed_alone_and_once(home: Path) -> None:
    made = run(home, "create", "ci")
    key = made.stdout.strip()
    assert (made.exit_code, len(key)) == (0, 49)
    assert "cannot be shown again" in made.stderr
    assert key not in made.stderr
    listed = run(home, "list").stdout
    assert key not in listed
    assert f"{key[:12]}..." in listed
    written = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert key.encode() not in written


def test_a_revoked_key_stays_in_the_list(home: Path) -> None:
    run(home, "create", "ci")
    revoked = run(home, "revoke", "ci")
    assert (revoked.exit_code, revoked.stdout) == (0, "")
    (row,) = map(json.loads, run(home, "list", "--json").stdout.splitlines())
    assert row["name"] == "ci"
    assert row["revoked_at"] is not None
    again = run(home, "revoke", "ci")
    assert (again.exit_code, again.stderr) == (1, "Error: there is no valid key 'ci'\n")


def test_what_cannot_be_done_is_one_line(home: Path) -> None:
    run(home, "create", "ci")
    twice = run(home, "create", "ci")
    assert (twice.exit_code, twice.stdout) == (1, "")
    assert twice.stderr == "Error: there is a valid key 'ci' already; revoke it first, or choose another name\n"
    assert run(home, "create", "").exit_code == 2
    assert run(home, "create", "x\ny").exit_code == 2
    assert run(home, "create", "x", "--shares-with", "nobody").exit_code == 1


def test_json_has_the_key_only_when_it_is_made(home: Path) -> None:
    made = json.loads(run(home, "create", "ci", "--json").stdout)
    assert set(made) == {"key", "name", "prefix", "created_at", "last_used_at", "revoked_at"}
    assert made["key"].startswith(made["prefix"])
    assert "key" not in json.loads(run(home, "list", "--json").stdout)
