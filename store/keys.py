"""API keys that are created and revoked while the service runs: only a key's SHA-256 is ever stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from store.clock import clock
from store.errors import Conflict, NotFound
from store.statements import CHANGE, insert_into
from store.tables import NO_OWNER, Alias, ApiKey, Job, Model

_BEGINNING = "intff_"  # tells people and secret scanners what they have found
_SECRET_BYTES = 32
_SHOWN = len(_BEGINNING) + 6
_NOTED_SECONDS = 60.0  # the precision of a key's last use


@dataclass(frozen=True)
class KnownKeys:
    """What a service process needs to check keys, as of one moment."""

    owners: dict[str, str]
    """The owner behind each key that is valid, by the key's SHA-256."""
    has_any: bool
    """Whether there has ever been a key: revoking the last one does not make the service open again."""


def key_hash(key: str) -> str:
    """The hash that is stored for a key; a fast one is enough for 256 random bits, which nobody can guess."""
    return hashlib.sha256(key.encode()).hexdigest()


def create_key(session: Session, name: str, *, shares_with: str | None = None) -> tuple[str, ApiKey]:
    """Create a key.

    Args:
        session: the session to write with.
        name: for people; unique among valid keys.
        shares_with: an earlier key's name; the new one sees and owns the same jobs and models.

    Returns:
        The key, which cannot be retrieved again, and its row.

    Raises:
        Conflict: a valid key has this name.
        NotFound: there is no key with the name to share with.
    """
    key = _BEGINNING + secrets.token_urlsafe(_SECRET_BYTES)
    digest = key_hash(key)
    owner = digest if shares_with is None else _newest(session, shares_with).owner
    made = session.scalars(
        insert_into(session, ApiKey)
        .values(sha256=digest, name=name, prefix=key[:_SHOWN], owner=owner)
        .on_conflict_do_nothing()  # the only possible conflict is the name
        .returning(ApiKey)
    ).one_or_none()
    if made is None:
        msg = f"there is a valid key {name!r} already; revoke it first, or choose another name"
        raise Conflict(msg)
    return key, made


def adopt_ownerless(session: Session, owner: str) -> int:
    """Give an owner what was made while there were no keys, which nobody could see any more.

    Returns:
        How many jobs that is.
    """
    adopted = 0
    for table in (Alias, Model, Job):
        changed = session.execute(
            update(table).where(table.owner == NO_OWNER).values(owner=owner).returning(table.owner),
            execution_options=CHANGE,
        )
        adopted = len(changed.all())
    return adopted


def list_keys(session: Session) -> list[ApiKey]:
    """Every key ever created, oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.sha256)))


def revoke_key(session: Session, name: str) -> ApiKey:
    """Revoke a key permanently; every API process notices within about a second.

    Raises:
        NotFound: no valid key has this name.
    """
    revoked = session.scalars(
        update(ApiKey)
        .where(ApiKey.name == name, ApiKey.revoked_at.is_(None))
        .values(revoked_at=clock())
        .returning(ApiKey),
        execution_options=CHANGE,
    ).one_or_none()
    if revoked is None:
        msg = f"there is no valid key {name!r}"
        raise NotFound(msg)
    return revoked


def known_keys(session: Session) -> KnownKeys:
    """The keys as they are now."""
    rows = session.execute(select(ApiKey.sha256, ApiKey.owner, ApiKey.revoked_at)).all()
    return KnownKeys({digest: owner for digest, owner, revoked_at in rows if revoked_at is None}, bool(rows))


def note_use(session: Session, digests: Collection[str]) -> None:
    """Record that keys were used just now, to the minute."""
    session.execute(
        update(ApiKey)
        .where(
            ApiKey.sha256.in_(digests),
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < clock(-_NOTED_SECONDS)),
        )
        .values(last_used_at=clock()),
        execution_options={"synchronize_session": False},
    )


def _newest(session: Session, name: str) -> ApiKey:
    found = session.scalars(select(ApiKey).where(ApiKey.name == name).order_by(ApiKey.created_at.desc()).limit(1))
    row = found.one_or_none()
    if row is None:
        msg = f"there is no key {name!r} to share with"
        raise NotFound(msg)
    return row
