"""Keys that the holder of a key makes, renews and ends.

Invariant: nobody hands out more than they have: no scope that their own key lacks, and no day beyond its own end. A key
without `admin` reaches the keys of its owner alone, and of those only such as it could have made itself.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.orm import Session

from store import keys, owners
from store.columns import core
from store.database import now
from store.errors import BeyondGrant, KeyEnded, OwnerNotFound
from store.keys import Authenticated, CreatedKey, KeyScope
from store.tables import ApiKey


@dataclass(frozen=True)
class Wanted:
    """The key that somebody asks for."""

    name: str
    scopes: frozenset[KeyScope]
    expires_in_seconds: float | None = None
    owner: str | None = None
    """By id or name; None: whoever asks."""


def grant(session: Session, by: Authenticated, wanted: Wanted) -> CreatedKey:
    """Make a key. An owner of a new name is made with it. Raises `BeyondGrant`, `OwnerNotFound`."""
    _require(by, wanted.scopes)
    owner = by.owner
    if wanted.owner is not None:
        _require(by, (KeyScope.ADMIN,))
        owner = _known_or_new(session, wanted.owner)
    made = keys.create(
        session, wanted.name, owner=owner, scopes=wanted.scopes, expires_in_seconds=wanted.expires_in_seconds
    )
    _end_no_later(session, made, by)
    return made


def rotate(session: Session, by: Authenticated, key_id: str, *, overlap_seconds: float = 0.0) -> CreatedKey:
    """A new secret for what a key is good for; the old one ends after the overlap.

    Raises `KeyNotFound`, `KeyEnded`, `BeyondGrant`.
    """
    old = _within_reach(session, by, key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now(session)):
        raise KeyEnded(key_id)
    made = keys.rotate(session, key_id, overlap_seconds=overlap_seconds)
    _end_no_later(session, made, by)
    return made


def revoke(session: Session, by: Authenticated, key_id: str) -> None:
    """End a key; repeats change nothing. Raises `KeyNotFound`, `BeyondGrant`."""
    _within_reach(session, by, key_id)
    keys.revoke(session, key_id)


def reach(by: Authenticated) -> str | None:
    """Whose keys and jobs somebody sees: their owner's, or everybody's (None)."""
    return None if KeyScope.ADMIN in by.scopes else by.owner


def _within_reach(session: Session, by: Authenticated, key_id: str) -> ApiKey:
    key = keys.get(session, key_id, owner=reach(by))
    _require(by, [KeyScope(scope) for scope in key.scopes])
    return key


def _require(by: Authenticated, scopes: Collection[KeyScope]) -> None:
    for scope in scopes:
        if not by.allows(scope):
            raise BeyondGrant(scope.value)


def _known_or_new(session: Session, id_or_name: str) -> str:
    try:
        return owners.resolve(session, id_or_name)
    except OwnerNotFound:
        if id_or_name.startswith(owners.ID_PREFIX):
            # A slip in an id, not a name.
            raise
        return owners.create(session, id_or_name)


def _end_no_later(session: Session, made: CreatedKey, by: Authenticated) -> None:
    if by.expires_at is None:
        return
    table = core(ApiKey)
    later = table.c.expires_at.is_(None) | (table.c.expires_at > by.expires_at)
    session.execute(update(table).where(table.c.id == made.id, later).values(expires_at=by.expires_at))
