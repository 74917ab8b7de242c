"""Settings come from the environment, nonsense is refused by name, and keys are never kept as they are."""

from __future__ import annotations

import json
import logging
from io import StringIO
from pathlib import Path

import pytest
import structlog

from store.database import connect
from store.errors import SettingsError
from store.logs import set_up
from store.schema import upgrade
from store.settings import Settings, is_loopback, read_settings

# printf correct-horse-battery | sha256sum
KEY = "correct-horse-battery"
KEY_SHA256 = "62249369389075490555a758353aec61500c6218fa597252d52dc4bd0148f12d"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"INTFF_{name.upper()}", raising=False)


def test_everything_lies_in_the_home_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert read_settings().home == Path.home() / ".intff"
    monkeypatch.setenv("INTFF_HOME", str(tmp_path))
    settings = read_settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/intff.db"
    assert settings.artifacts_url == f"{tmp_path}/artifacts"
    assert settings.broker_url is None
    assert settings.data_dir is None


def test_an_empty_variable_is_like_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(f"INTFF_{name.upper()}", "")
    assert read_settings() == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "http"),
        ("DATABASE_URL", "mysql://localhost/intff"),
        ("BROKER_URL", "amqp://localhost"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "nan"),
        ("SWEEP_SECONDS", "-1"),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_IMAGES", "0"),
        ("WORKER_QUEUES", "cpu,tpu"),
        ("LOG_LEVEL", "loud"),
        ("LOG_JSON", "perhaps"),
    ],
)
def test_nonsense_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"INTFF_{variable}", value)
    with pytest.raises(SettingsError, match=f"INTFF_{variable}: .*, got"):
        read_settings()


def test_a_misspelled_setting_in_code_is_refused() -> None:
    with pytest.raises(SettingsError, match="INTFF_PROT"):
        read_settings(prot=1)


def test_keys_are_kept_as_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTFF_API_KEYS", f" {KEY} , sha256:{'0' * 64},{KEY}")
    settings = read_settings()
    assert settings.api_keys == (KEY_SHA256, "0" * 64)
    assert KEY not in repr(settings)


def test_a_short_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTFF_API_KEYS", "hunter2")
    with pytest.raises(SettingsError, match=r"INTFF_API_KEYS: .*at least 16 characters") as refused:
        read_settings()
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_only_loopback_may_be_open_to_everybody(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    settings = Settings(host=host)
    if loopback:
        settings.require_safe_bind()
    else:
        with pytest.raises(SettingsError, match="INTFF_API_KEYS"):
            settings.require_safe_bind()
    Settings(host=host, api_keys=(KEY,)).require_safe_bind()


def test_queues_and_limits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTFF_WORKER_QUEUES", "cpu, gpu")
    monkeypatch.setenv("INTFF_MAX_PARAMETERS", "1000")
    settings = read_settings()
    assert settings.worker_queues == ("cpu", "gpu")
    assert settings.limits().max_parameters == 1000


@pytest.mark.parametrize(
    "url",
    [
        "redis://:Ab/cdef+gh@127.0.0.1:6379/9",
        "redis://:geh#eim@127.0.0.1:6379/9",
        "redis://user:12/34cdef@127.0.0.1:6379/9",
        "redis://127.0.0.1:6379/abc",
        "redis://127.0.0.1:63x9/0",
        "postgresql://intff:geh@eim@127.0.0.1:5432/x",
        "postgresql://intff:12/34cdef@127.0.0.1:5432/x",
        "postgresql://intff:geheim@127.0.0.1:54x2/x",
        "postgresql://127.0.0.1:5432",
        "postgresql://127.0.0.1:5432/",
    ],
)
def test_a_url_that_would_be_read_otherwise_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    variable = "INTFF_BROKER_URL" if url.startswith("redis") else "INTFF_DATABASE_URL"
    monkeypatch.setenv(variable, url)
    with pytest.raises(SettingsError, match=f"^{variable}: it") as refused:
        read_settings()
    assert not {part for part in ("Ab", "cdef", "geh", "eim", "34") if part in str(refused.value)}


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("BROKER_URL", "redis://:Ab%2Fcdef%23@127.0.0.1:6379/9"),
        ("BROKER_URL", "rediss://user:secret@redis.example"),
        ("BROKER_URL", "redis+socket:///run/valkey.sock?virtual_host=2"),
        ("DATABASE_URL", "postgresql://intff:geh%40eim@[::1]:5432/intff?sslmode=require"),
        ("DATABASE_URL", "postgresql:///intff?host=/run/postgresql"),
        ("DATABASE_URL", "sqlite:////srv/a%3Fb.db"),
    ],
)
def test_a_url_as_it_should_be_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.setenv(f"INTFF_{variable}", url)
    assert getattr(read_settings(), variable.lower()) == url


def test_a_home_of_any_name_holds_its_database(tmp_path: Path) -> None:
    home = tmp_path / "h #a?b%2F &ü"
    engine = connect(read_settings(home=home).database_url)
    upgrade(engine)
    engine.dispose()
    assert [file.name for file in home.glob("*.db")] == ["intff.db"]
    assert [folder.name for folder in tmp_path.iterdir()] == [home.name]


def test_a_variable_that_nothing_reads_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTFF_DATABSE_URL", "postgresql://127.0.0.1/intff")
    monkeypatch.setenv("INTFF_LEASE_SECONDS", "9")
    monkeypatch.setenv("INTFF_URL", "http://127.0.0.1:8000")
    told = StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up(read_settings(log_json=True), told)
    finally:
        root.handlers, root.level = before
        structlog.reset_defaults()
    [line] = [json.loads(line) for line in told.getvalue().splitlines()]
    assert (line["event"], line["name"], line["closest"]) == (
        "unknown_variable",
        "INTFF_DATABSE_URL",
        "INTFF_DATABASE_URL",
    )


@pytest.mark.parametrize("variable", ["DATABASE_URL", "BROKER_URL"])
def test_a_password_in_a_wrong_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(f"INTFF_{variable}", "mysql://root:correct-horse@db.example/intff")
    with pytest.raises(SettingsError, match=r"got 'mysql://\*\*\*@db.example/intff'") as refused:
        read_settings()
    assert "correct-horse" not in str(refused.value)
