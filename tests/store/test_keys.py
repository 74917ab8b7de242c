"""API keys: shown once, stored as their hash, revoked for good."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from store.database import Sessions, connect, sessions
from store.errors import Conflict, NotFound
from store.queries import create_key, known_keys, list_keys, note_use, revoke_key
from store.tables import ApiKey


@pytest.fixture
def db(database_url: str) -> Iterator[Sessions]:
    engine = connect(database_url)
    yield sessions(engine)
    engine.dispose()


def test_only_the_hash_and_the_beginning_of_a_key_are_stored(db: Sessions) -> None:
    with db.begin() as session:
        key, row = create_key(session, "ci")
    assert len(key) == 6 + 43
    assert key.startswith("intff_")
    assert (row.sha256, row.prefix) == (hashlib.sha256(key.encode()).hexdigest(), key[:12])
    assert row.owner == row.sha256
    with db() as session:
        stored = session.execute(select(ApiKey.__table__)).one()
        assert key not in repr(stored)
        known = known_keys(session)
    assert (known.owners, known.has_any) == ({row.sha256: row.sha256}, True)


def test_two_valid_keys_have_different_names_and_a_revoked_one_gives_its_name_back(db: Sessions) -> None:
    with db.begin() as session:
        first, _ = create_key(session, "ci")
    with db.begin() as session, pytest.raises(Conflict, match="there is a valid key 'ci' already"):
        create_key(session, "ci")
    with db.begin() as session:
        assert revoke_key(session, "ci").revoked_at is not None
    with db.begin() as session:
        second, _ = create_key(session, "ci")
    assert first != second
    with db() as session:
        assert [row.revoked_at is None for row in list_keys(session)] == [False, True]
        assert list(known_keys(session).owners) == [hashlib.sha256(second.encode()).hexdigest()]


def test_a_key_is_revoked_once(db: Sessions) -> None:
    with db.begin() as session, pytest.raises(NotFound, match="no valid key 'ci'"):
        revoke_key(session, "ci")
    with db.begin() as session:
        create_key(session, "ci")
        revoke_key(session, "ci")
        with pytest.raises(NotFound):
            revoke_key(session, "ci")


def test_after_the_last_key_was_revoked_there_has_still_been_one(db: Sessions) -> None:
    with db.begin() as session:
        assert not known_keys(session).has_any
        create_key(session, "ci")
        revoke_key(session, "ci")
        known = known_keys(session)
    assert (known.owners, known.has_any) == ({}, True)


def test_a_key_may_take_over_what_an_earlier_one_made(db: Sessions) -> None:
    with db.begin() as session:
        _, first = create_key(session, "ci")
        revoke_key(session, "ci")
        _, second = create_key(session, "ci-2", shares_with="ci")
        _, third = create_key(session, "ci-3", shares_with="ci-2")
        with pytest.raises(NotFound, match="no key 'nobody'"):
            create_key(session, "x", shares_with="nobody")
    assert first.owner == second.owner == third.owner == first.sha256


def test_the_last_use_is_known_to_the_minute(db: Sessions) -> None:
    with db.begin() as session:
        _, row = create_key(session, "ci")
        assert row.last_used_at is None
        note_use(session, [row.sha256])
    with db.begin() as session:
        (noted,) = list_keys(session)
        assert noted.last_used_at is not None
        note_use(session, [row.sha256])
    with db() as session:
        assert list_keys(session)[0].last_used_at == noted.last_used_at
