"""Owners, who have jobs, and their API keys."""

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS
from store.columns import Count, MaybeSeconds, Seconds, Table, Word

DEFAULT_OWNER = "own_default"
"""Who has what was there before there were owners, and every key that is made without naming one."""


class Owner(Table):
    """Somebody who submits: a person or a team, with any number of keys."""

    __tablename__ = "owners"

    id: Mapped[Word] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARS), unique=True)
    stored_bytes: Mapped[Count]
    """Of contents of files, each once, from their announcement until they are purged."""
    created_at: Mapped[Seconds]


class ApiKey(Table):
    """A bearer key; the secret itself is shown once and never stored."""

    __tablename__ = "api_keys"

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[Word] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    """Of read, submit, admin."""
    created_at: Mapped[Seconds]
    expires_at: Mapped[MaybeSeconds]
    last_used_at: Mapped[MaybeSeconds]
    revoked_at: Mapped[MaybeSeconds]
