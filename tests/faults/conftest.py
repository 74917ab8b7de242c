"""What the faults start from, and the order in which they run."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.installation import Installation, spec
from tests.faults.servers import PrivatePostgresql, PrivateValkey, postgresql_programs
from tests.faults.table import FAULT

Survived = Callable[..., None]
References = Callable[..., str]

# The files that take longest, in the order in which they begin when two tests run at a time: what is short comes
# last and fills the gaps. Then those that measure, which have the machine to themselves.
_LONGEST = (
    "test_soak",
    "test_database_outages",
    "test_twins",
    "test_broker_outages",
    "test_attacks_rude",
    "test_kills",
)


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the faults into an order in which two processes end at about the same time, and together what belongs so."""

    def turn(item: pytest.Item) -> int:
        if item.get_closest_marker("alone") is not None:
            return len(_LONGEST) + 1
        return _LONGEST.index(item.path.stem) if item.path.stem in _LONGEST else len(_LONGEST)

    faults = [item for item in items if item.get_closest_marker("faults") is not None]
    for item in faults:
        if item.get_closest_marker("alone") is not None:
            item.add_marker(pytest.mark.xdist_group("alone"))
        elif {"target", "lasting"} & set(getattr(item, "fixturenames", ())):  # the file's own processes, started once
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    ordered = iter(sorted(faults, key=turn))
    items[:] = [next(ordered) if item in faults else item for item in items]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all the processes of this run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def locked(file: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock of all the processes of this run."""
    with file.open("ab") as opened:
        fcntl.flock(opened, how)
        yield


@pytest.fixture(autouse=True)
def room(request: pytest.FixtureRequest, shared: Path) -> Iterator[None]:
    """For a test that is marked `alone` the whole machine; any other shares it with what else runs."""
    is_alone = request.node.get_closest_marker("alone") is not None
    with locked(shared / "machine", fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH):
        yield


@pytest.fixture
def survived(record_property: Callable[[str, object], None]) -> Survived:
    """Note a fault for the table: what it was, how often it was produced, and a figure worth knowing."""

    def note(fault: str, times: int = 1, figure: str = "") -> None:
        record_property(FAULT, [fault, times, figure])

    return note


@pytest.fixture
def postgresql() -> Iterator[PrivatePostgresql]:
    """A database server that a test may do anything to."""
    try:
        postgresql_programs()
    except FileNotFoundError as missing:
        if os.environ.get("INTFF_TEST_REQUIRE_SERVICES", "") not in {"", "0"}:
            pytest.fail(f"PostgreSQL's server is required: {missing}", pytrace=False)
        pytest.skip(f"needs PostgreSQL's server programs: {missing}")
    server = PrivatePostgresql()
    server.start()
    yield server
    server.close()


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings of a test's installation beyond the usual ones; tests override it."""
    return {}


@pytest.fixture
def installation(
    tmp_path: Path, database_url: str, valkey: PrivateValkey, settings: dict[str, str]
) -> Iterator[Installation]:
    """No process yet: a test starts those that it needs."""
    made = Installation(tmp_path / "home", database_url, valkey.url, **settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An API and a worker that stay up for all tests of a file: starting them costs more than most of the tests."""
    broker = PrivateValkey()
    broker.start()
    url = request.getfixturevalue("_postgresql_database")
    made = Installation(tmp_path_factory.mktemp("lasting") / "home", url, broker.url)
    try:
        made.start()
        yield made
    finally:
        made.close()
        broker.close()


@pytest.fixture
def shared_installation(lasting: Installation, database_url: str) -> Iterator[Installation]:
    """The file's installation, with an empty database and no files."""
    assert lasting.environment["INTFF_DATABASE_URL"] == database_url
    yield lasting
    shutil.rmtree(lasting.artifacts, ignore_errors=True)


@pytest.fixture(scope="session")
def weights_of(shared: Path) -> References:
    """The SHA-256 of the weights of a run that nothing interrupted, made once by the library's own command."""

    def train(epochs: int, **fields: Any) -> str:
        wanted = json.dumps(spec(epochs, **fields), sort_keys=True)
        folder = shared / f"uninterrupted-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        with locked(folder / "lock"):
            manifest = folder / "model" / "manifest.json"
            if not manifest.exists():
                (folder / "spec.json").write_text(wanted)
                command = [str(Path(sys.executable).with_name("intff")), "train", "--spec", str(folder / "spec.json")]
                command += ["--out", str(folder / "model"), "--json"]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
                subprocess.run(command, check=True, capture_output=True, env=environment, timeout=200)
            sha256: str = json.loads(manifest.read_text())["files"]["weights.safetensors"]["sha256"]
            return sha256

    return train
