"""The distributed shape, as far as it can be tried without Docker: its files agree, and its commands run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from intff.spec import Limits
from service.connections import SERVER_OPTIONS
from service.valkey import find_server
from store.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FILLED_IN = {"INTFF_API_KEYS": "a-key-of-enough-characters", "POSTGRES_PASSWORD": "secret"}
# These are the image's and the container's own affair, and not to be chosen in .env.
FIXED = {"home", "data_dir", "database_url", "broker_url", "host", "port", "log_json", "worker_queues"}

VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


def _interpolated(value: Any, variables: dict[str, str]) -> Any:
    """What Compose makes of `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`."""
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        name, rule, rest = match.groups()
        if name is None:
            return "$"
        found = variables.get(name, "")
        if not found and rule == ":?":
            raise LookupError(rest)
        return found or (rest if rule == ":-" else "")

    return VARIABLE.sub(replaced, value)


def _compose(**variables: str) -> dict[str, Any]:
    read = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return dict(_interpolated(read, variables))


def _environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in service["environment"].items() if value is not None}


def _dockerfile() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(line[0], line[1]) for line in lines]


def _command_of(target: str) -> list[str]:
    """The CMD of one stage of the Dockerfile."""
    stage = ""
    for word, rest in _dockerfile():
        if word == "FROM":
            stage = rest.split()[-1]
        elif word == "CMD" and stage == target:
            return list(yaml.safe_load(rest))
    raise AssertionError(target)


SERVICES: dict[str, Any] = _compose(**FILLED_IN)["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}


def test_the_compose_file_follows_the_compose_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_image_starts_the_api_with_the_options_that_intff_serve_gives_it() -> None:
    command = _command_of("api")
    start = command.index(SERVER_OPTIONS[0])
    assert tuple(command[start : start + len(SERVER_OPTIONS)]) == SERVER_OPTIONS


@pytest.mark.parametrize("missing", sorted(FILLED_IN))
def test_compose_refuses_to_start_without_keys_and_password(missing: str) -> None:
    with pytest.raises(LookupError, match=f"set {missing} in .env"):
        _compose(**{name: value for name, value in FILLED_IN.items() if name != missing})


@pytest.mark.parametrize("name", sorted(OWN))
def test_the_environment_of_each_container_makes_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [key for key in os.environ if key.startswith("INTFF_")]:
        monkeypatch.delenv(variable)
    for variable, value in _environment(SERVICES[name]).items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.database_url == "postgresql://intff:secret@postgres:5432/intff"
    assert settings.broker_url == "redis://broker:6379/0"
    assert settings.artifacts_url == "/var/lib/intff/artifacts"
    settings.require_safe_bind()
    assert bool(settings.api_keys) == (name == "api")


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_variable_that_a_container_gets_is_a_setting(name: str) -> None:
    given = {variable for variable in SERVICES[name]["environment"] if variable.startswith("INTFF_")}
    assert given <= {f"INTFF_{field.upper()}" for field in Settings.model_fields}


def test_every_setting_can_be_chosen_in_the_env_file_or_is_the_containers_own() -> None:
    handed_on = {name for service in OWN.values() for name in service["environment"]}
    chosen = {f"INTFF_{field.upper()}" for field in set(Settings.model_fields) - FIXED}
    assert chosen <= handed_on
    assert chosen <= set(re.findall(r"^#? ?(INTFF_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_the_env_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [key for key in os.environ if key.startswith("INTFF_")]:
        monkeypatch.delenv(variable)
    shown = dict(re.findall(r"^# (INTFF_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert shown.pop("INTFF_ARTIFACTS_URL") == "s3://bucket/intff"
    defaults = Settings()
    for variable, value in shown.items():
        monkeypatch.setenv(variable, value)
    assert Settings() == defaults
    assert defaults.limits() == Limits(max_parameters=50_000_000, max_memory_bytes=8_589_934_592)


def test_every_variable_of_the_env_example_is_read_by_the_compose_file() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE):
        assert re.search(rf"\$\{{{variable}\b|^  {variable}:$", compose, re.MULTILINE), variable


def test_services_depend_on_and_mount_only_what_is_declared() -> None:
    declared = _compose(**FILLED_IN)["volumes"]
    for service in SERVICES.values():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[other]
        for volume in service["volumes"]:
            assert volume.split(":")[0] in declared
        assert service["restart"] == "unless-stopped"
        assert "stop_grace_period" in service


def test_the_workers_and_the_api_share_the_artifacts() -> None:
    assert all("artifacts:/var/lib/intff/artifacts" in service["volumes"] for service in OWN.values())


def test_images_of_others_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += [f"python:{rest.split('=')[1]}" for word, rest in _dockerfile() if word == "ARG" and "PYTHON" in rest]
    assert len(images) == 3
    assert all(re.search(r":\d+\.\d+(\.\d+)?-", image) for image in images), images


def test_a_gpu_worker_is_asked_for_and_sees_one_gpu() -> None:
    worker = SERVICES["worker-gpu-0"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert worker["profiles"] == ["gpu"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    assert worker["environment"]["INTFF_WORKER_QUEUES"] == "gpu,cpu"


def test_the_image_is_built_from_files_that_are_there_and_sent_to_the_builder() -> None:
    sent = set((ROOT / ".dockerignore").read_text().splitlines())
    for word, rest in _dockerfile():
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in sent


def test_the_targets_and_extras_exist_and_the_api_has_no_torch() -> None:
    stages = {rest.split()[-1]: position for position, (word, rest) in enumerate(_dockerfile()) if word == "FROM"}
    assert {service["build"]["target"] for service in OWN.values()} <= set(stages)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = [re.search(r'"\.\[(.+)\]"', rest) for word, rest in _dockerfile() if word == "RUN"]
    assert [match[1].split(",") for match in installed if match] == [["service", "s3"], ["worker", "s3"]]
    assert {"service", "worker", "s3"} <= set(extras)
    assert "torch" not in " ".join(extras["service"] + extras["store"] + extras["s3"])


def test_containers_do_not_run_as_root() -> None:
    assert ("USER", "intff") in _dockerfile()


@pytest.mark.skipif(shutil.which("pg_isready") is None, reason="PostgreSQL's pg_isready is not installed here")
def test_the_check_of_postgres_is_a_command_that_it_understands() -> None:
    _, *command = SERVICES["postgres"]["healthcheck"]["test"]
    check = subprocess.run([*command, f"--port={_free_port()}"], capture_output=True, text=True, check=False)
    assert check.returncode == 2, check.stderr  # its word for no answer; 3 would be a wrong option
    assert "no response" in check.stdout


@pytest.mark.slow
def test_the_commands_of_broker_api_and_worker_run_and_their_checks_pass(tmp_path: Path) -> None:
    broker, port = _free_port(), _free_port()
    own = {
        "INTFF_HOME": str(tmp_path),
        "INTFF_DATABASE_URL": f"sqlite:///{tmp_path}/intff.db",
        "INTFF_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "INTFF_ARTIFACTS_URL": str(tmp_path / "artifacts"),
    }
    server = [find_server(), *SERVICES["broker"]["command"][1:], "--port", str(broker), "--dir", str(tmp_path)]
    api = [word.replace("8000", str(port)) for word in _command_of("api")]
    with (
        _running(server, {}, tmp_path / "broker.log"),
        _running(api, {**_environment(SERVICES["api"]), **own}, tmp_path / "api.log"),
    ):
        _, *check = SERVICES["api"]["healthcheck"]["test"]
        _passes([word.replace("8000", str(port)) for word in check], {}, tmp_path / "api.log")
        environment = {**_environment(SERVICES["worker-cpu"]), **own}
        with _running(_command_of("worker"), environment, tmp_path / "worker.log"):
            _, *check = SERVICES["worker-cpu"]["healthcheck"]["test"]
            _passes(check, environment, tmp_path / "worker.log")
        assert _policy(broker) == {"maxmemory-policy": "noeviction", "appendonly": "yes"}


def _policy(port: int) -> dict[str, str]:
    import redis  # noqa: PLC0415 -- only this question needs it

    with redis.Redis(port=port, decode_responses=True) as client:
        return {name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly")}


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(_here(command), env=_only(environment), stdout=output, stderr=output, cwd=log.parent)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)  # as long as the compose file lets a worker take


def _passes(check: list[str], environment: dict[str, str], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(
            _here(check), env=_only(environment), capture_output=True, text=True, check=False, cwd=log.parent
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, f"{done.stderr}\n{log.read_text()[-3000:]}"
        time.sleep(0.3)


def _here(command: list[str]) -> list[str]:
    """The command with this environment's programs in place of the image's."""
    program = BIN / command[0]
    return [str(program), *command[1:]] if program.exists() else command


def _only(environment: dict[str, str]) -> dict[str, str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("INTFF_")}
    return {**rest, **environment}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
