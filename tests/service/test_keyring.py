"""Keys that are made and revoked while the service runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service import keyring
from service.errors import Unauthorized, Unavailable
from service.keyring import Keyring
from store.database import Sessions
from store.queries import create_key, list_keys, revoke_key
from store.settings import Settings
from store.tables import ApiKey

CONFIGURED = "configured-by-variable"


def make(db: Sessions, name: str, **options: Any) -> str:
    with db.begin() as session:
        return create_key(session, name, **options)[0]


def signed(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _within(seconds: float, happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_first_key_closes_the_service_and_revoking_it_does_not_open_it(client: httpx.Client, db: Sessions) -> None:
    def status(**headers: str) -> int:
        return client.get("/v1/jobs", headers=headers).status_code

    assert status() == 200
    key = make(db, "ci")
    assert _within(2, lambda: status() == 401)
    assert status(**signed(key)) == 200
    with db.begin() as session:
        revoke_key(session, "ci")
    assert _within(2, lambda: status(**signed(key)) == 401)
    assert status() == 401


def test_a_key_that_replaces_another_sees_what_that_one_made(client: httpx.Client, db: Sessions, make_job: Any) -> None:
    first, stranger = make(db, "ci"), make(db, "other")
    with db() as session:
        owner = session.query(ApiKey).filter_by(name="ci").one().owner
    job = make_job(owner).id
    second = make(db, "ci-2", shares_with="ci")
    assert _within(2, lambda: client.get("/v1/jobs").status_code == 401)
    found = [client.get(f"/v1/jobs/{job}", headers=signed(key)).status_code for key in (first, second, stranger)]
    assert found == [200, 200, 404]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_keys_of_the_settings_and_of_the_database_are_valid_side_by_side(settings: Settings, db: Sessions) -> None:
    keyed = Settings(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": CONFIGURED})
    ring = Keyring(keyed, db, db)
    made = make(db, "ci")
    ring.read()
    callers = [ring.caller_of(f"Bearer {key}") for key in (CONFIGURED, made)]
    assert len({caller.owner for caller in callers}) == 2
    with pytest.raises(Unauthorized):
        ring.caller_of("Bearer neither")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_database_learns_which_keys_were_used(
    settings: Settings, db: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_NOTE_SECONDS", 0.0)
    used = make(db, "used")
    make(db, "unused")
    ring = Keyring(settings, db, db)
    ring.read()
    ring.caller_of(f"Bearer {used}")
    ring.read()
    with db() as session:
        assert {row.name: row.last_used_at is not None for row in list_keys(session)} == {"used": True, "unused": False}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_the_database_its_keys_stay_valid_for_a_while_and_those_of_the_settings_always(
    settings: Settings, db: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = Settings(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": CONFIGURED})
    made = make(db, "ci")
    ring = Keyring(keyed, db, db)
    ring.read()
    assert ring.caller_of(f"Bearer {made}").key is not None
    monkeypatch.setattr(keyring, "_STALE_SECONDS", -1.0)
    with pytest.raises(Unavailable, match="the database with the API keys"):
        ring.caller_of(f"Bearer {made}")
    assert ring.caller_of(f"Bearer {CONFIGURED}").key is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_was_let_in_is_known_until_the_key_is_revoked_however_long_the_database_is_away(
    settings: Settings, db: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring(settings, db, db)
    ring.read()
    nobody = ring.caller_of(None)
    assert ring.still_knows(nobody)
    made = make(db, "ci")
    ring.read()
    caller = ring.caller_of(f"Bearer {made}")
    assert [ring.still_knows(each) for each in (nobody, caller)] == [False, True]
    with db.begin() as session:
        revoke_key(session, "ci")
    monkeypatch.setattr(keyring, "_STALE_SECONDS", -1.0)
    assert ring.still_knows(caller)
    ring.read()
    assert not ring.still_knows(caller)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_of_the_settings_is_known_for_ever(settings: Settings, db: Sessions) -> None:
    ring = Keyring(Settings(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": CONFIGURED}), db, db)
    caller = ring.caller_of(f"Bearer {CONFIGURED}")
    assert ring.still_knows(caller)
    ring.read()
    assert ring.still_knows(caller)
