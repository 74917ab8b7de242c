"""What the store's tests start from: an engine, sessions, and a job to begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from store.database import Sessions, connect, sessions


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def db(engine: Engine) -> Sessions:
    """Sessions that write to an empty database."""
    return sessions(engine)
