"""API keys.

Invariant: only the SHA-256 of a key is stored. A key has 256 random bits, so a plain hash cannot be guessed back and
costs a request nothing.
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, case, func, insert, or_, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import NAME_CHARS
from store import owners, pages
from store.columns import core
from store.database import clock, insert_if_absent
from store.errors import KeyNotFound
from store.ids import new_id
from store.pages import Page
from store.tables import ApiKey
from store.text import storable

PREFIX = "bnl_"
_KEY = core(ApiKey).c
_LEFT = (_KEY.expires_at - clock()).label("seconds_left")
_OPENED = select(_KEY.id, _KEY.name, _KEY.owner, _KEY.scopes, _KEY.expires_at, _LEFT).where(
    _KEY.secret_sha256 == bindparam("given"),
    _KEY.revoked_at.is_(None),
    or_(_KEY.expires_at.is_(None), _KEY.expires_at > clock()),
)
_SHOWN_CHARS = 12


class KeyScope(StrEnum):
    """What a key allows."""

    READ = "read"
    SUBMIT = "submit"
    """To submit, and to change what is the owner's; whoever may submit may read."""
    ADMIN = "admin"
    """Everything, of every owner."""


EVERY_SCOPE = tuple(KeyScope)


@dataclass(frozen=True)
class CreatedKey:
    """A new key with its secret, which nobody will see again."""

    id: str
    name: str
    secret: str


@dataclass(frozen=True)
class Authenticated:
    """Whose key it is, and what it allows."""

    id: str
    name: str
    owner: str
    scopes: frozenset[KeyScope]
    expires_at: float | None
    seconds_left: float | None = field(default=None, compare=False)
    """Until it expires, by the database's clock, when it was asked; None: it does not."""

    def allows(self, scope: KeyScope) -> bool:
        """Whether it is good for this: `admin` for everything, `submit` for reading too."""
        if KeyScope.ADMIN in self.scopes or scope in self.scopes:
            return True
        return scope is KeyScope.READ and KeyScope.SUBMIT in self.scopes


def create(
    session: Session,
    name: str,
    *,
    owner: str | None = None,
    scopes: Collection[KeyScope] = EVERY_SCOPE,
    expires_in_seconds: float | None = None,
) -> CreatedKey:
    """A new key, of the default owner unless another is named by its id."""
    secret = PREFIX + secrets.token_urlsafe(32)
    values = _columns(name, secret, owner or owners.default(session), scopes)
    if expires_in_seconds is not None:
        values["expires_at"] = clock() + expires_in_seconds
    table = core(ApiKey)
    key_id = session.execute(insert(table).values(values).returning(table.c.id)).scalar_one()
    return CreatedKey(key_id, name, secret)


def ensure(session: Session, name: str, secret: str) -> bool:
    """Make this very secret a key of the default owner unless it ever was one; a revoked one stays revoked.

    True if it was made.
    """
    return insert_if_absent(session, ApiKey, _columns(name, secret, owners.default(session), EVERY_SCOPE))


def list_all(session: Session, *, owner: str | None = None) -> list[ApiKey]:
    """All keys, or all of an owner, revoked ones too, oldest first."""
    statement = select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)
    if owner is not None:
        statement = statement.where(ApiKey.owner == owner)
    return list(session.scalars(statement, execution_options={"populate_existing": True}))


def page(session: Session, *, owner: str | None = None, cursor: str | None = None, limit: int = 20) -> Page[ApiKey]:
    """A page of the same. Raises `CursorInvalid`."""
    statement = select(ApiKey)
    if owner is not None:
        statement = statement.where(ApiKey.owner == owner)
    return pages.by_age(session, statement, ApiKey, ["keys", owner], cursor, limit)


def get(session: Session, key_id: str, *, owner: str | None = None) -> ApiKey:
    """One key. Raises `KeyNotFound`, for those of others too."""
    row = session.get(ApiKey, key_id, populate_existing=True)
    if row is None or owner not in (None, row.owner):
        raise KeyNotFound(key_id)
    return row


def revoke(session: Session, key_id: str, *, owner: str | None = None) -> None:
    """The key opens nothing from now on; repeats change nothing. Raises `KeyNotFound`."""
    get(session, key_id, owner=owner)
    statement = (
        update(core(ApiKey)).where(ApiKey.id == key_id).values(revoked_at=func.coalesce(ApiKey.revoked_at, clock()))
    )
    session.execute(statement)


def rotate(session: Session, key_id: str, *, owner: str | None = None, overlap_seconds: float = 0.0) -> CreatedKey:
    """A new secret with the name, owner, scopes and expiry of a key, which itself ends after the overlap.

    Raises `KeyNotFound`, for a revoked key too.
    """
    old = get(session, key_id, owner=owner)
    if old.revoked_at is not None:
        raise KeyNotFound(key_id)
    new = create(session, old.name, owner=old.owner, scopes=[KeyScope(scope) for scope in old.scopes])
    table = core(ApiKey)
    session.execute(update(table).where(table.c.id == new.id).values(expires_at=old.expires_at))
    end = clock() + overlap_seconds
    sooner = case((table.c.expires_at < end, table.c.expires_at), else_=end)
    session.execute(update(table).where(table.c.id == key_id).values(expires_at=sooner))
    return new


def authenticate(session: Session, secret: str) -> Authenticated | None:
    """Whose key this is; None for an unknown, revoked or expired one. Only reads."""
    found = session.execute(_OPENED, {"given": _sha256(secret)}).one_or_none()
    if found is None:
        return None
    key_id, name, owner, scopes, expires_at, seconds_left = found
    return Authenticated(key_id, name, owner, frozenset(map(KeyScope, scopes)), expires_at, seconds_left)


def touch(session: Session, key_ids: Collection[str]) -> None:
    """Note that keys were used lately; readers collect them and have it noted once a minute."""
    session.execute(update(core(ApiKey)).where(ApiKey.id.in_(key_ids)).values(last_used_at=clock()))


def _columns(name: str, secret: str, owner: str, scopes: Collection[KeyScope]) -> dict[str, Any]:
    return {
        "id": new_id("key"),
        "owner": owner,
        "name": storable(name, NAME_CHARS),
        "prefix": secret[:_SHOWN_CHARS],
        "secret_sha256": _sha256(secret),
        "scopes": [scope.value for scope in KeyScope if scope in scopes],
        "created_at": clock(),
    }


def _sha256(secret: str) -> str:
    # A header may hold anything, lone surrogates included.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
