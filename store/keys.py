"""API keys.

Invariant: only the SHA-256 of a key is stored. A key has 256 random bits, so a plain hash cannot be guessed back and
costs a request nothing.
"""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import insert, or_, select, update
from sqlalchemy.orm import Session

from store.columns import Table
from store.database import clock, insert_if_absent
from store.errors import KeyNotFound
from store.ids import new_id
from store.models import ApiKey

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
    row = {**_columns(name, secret)}
    session.execute(insert(ApiKey).values(row))
    return CreatedKey(row["id"], name, secret)


def ensure(session: Session, name: str, secret: str) -> bool:
    """Make this very secret a key unless it is one already, revoked ones included; True if it was made."""
    return insert_if_absent(session, _table(ApiKey), _columns(name, secret))
