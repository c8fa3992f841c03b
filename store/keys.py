"""API keys.

Invariant: only the SHA-256 of a key is stored. A key has 256 random bits, so a plain hash cannot be guessed back and
costs a request nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from store.database import clock, insert_if_absent
from store.errors import KeyNotFound
from store.ids import new_id
from store.models import ApiKey
from store.text import storable

PREFIX = "bnl_"
_SHOWN_CHARS = 12
_TOUCH_EVERY_SECONDS = 60.0
_QUIETLY = {"synchronize_session": False}


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its secret, which nobody will see again."""

    id: str
    name: str
    secret: str


@dataclass(frozen=True)
class Authenticated:
    """Whose key it is; with `touch_due` the caller should call `touch` in a writing session."""

    id: str
    name: str
    touch_due: bool


def create(session: Session, name: str) -> CreatedKey:
    """A new key."""
    secret = PREFIX + secrets.token_urlsafe(32)
    key_id = session.scalars(insert(ApiKey).values(_columns(name, secret)).returning(ApiKey.id)).one()
    return CreatedKey(key_id, name, secret)


def ensure(session: Session, name: str, secret: str) -> bool:
    """Make this very secret a key unless it ever was one; a revoked one stays revoked. True if it was made."""
    return insert_if_absent(session, ApiKey, _columns(name, secret))


def list_all(session: Session) -> list[ApiKey]:
    """All keys, revoked ones too, oldest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))


def revoke(session: Session, key_id: str) -> None:
    """The key opens nothing from now on; repeats change nothing. Raises `KeyNotFound`."""
    statement = (
        update(ApiKey)
        .where(ApiKey.id == key_id)
        .values(revoked_at=func.coalesce(ApiKey.revoked_at, clock()))
        .returning(ApiKey.id)
    )
    if session.execute(statement, execution_options=_QUIETLY).first() is None:
        raise KeyNotFound(key_id)


def authenticate(session: Session, secret: str) -> Authenticated | None:
    """Whose key this is; None for an unknown or revoked one. Only reads."""
    touch_due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < clock() - _TOUCH_EVERY_SECONDS)
    statement = select(ApiKey.id, ApiKey.name, touch_due).where(
        ApiKey.secret_sha256 == _sha256(secret), ApiKey.revoked_at.is_(None)
    )
    found = session.execute(statement).one_or_none()
    return None if found is None else Authenticated(found[0], found[1], bool(found[2]))


def touch(session: Session, key_id: str) -> None:
    """Note that the key was used; once a minute is often enough, see `Authenticated.touch_due`."""
    statement = update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=clock())
    session.execute(statement, execution_options=_QUIETLY)


def _columns(name: str, secret: str) -> dict[str, Any]:
    return {
        "id": new_id("key"),
        "name": storable(name, 200),
        "prefix": secret[:_SHOWN_CHARS],
        "secret_sha256": _sha256(secret),
        "created_at": clock(),
    }


def _sha256(secret: str) -> str:
    # A header may hold anything, lone surrogates included.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
