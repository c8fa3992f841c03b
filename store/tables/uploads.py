"""Uploads: data sets on their way in, part by part. None of them is a job before all of it is there."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS, NAME_CHARS
from store.columns import Count, MaybeWord, Seconds, Table, Word


class Upload(Table):
    """A data set that is being uploaded, under the id that it will have; a cut-off one is forgotten after a day."""

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index("ix_uploads_listed", "owner", "created_at", "id"),
        Index("ix_uploads_expires_at", "expires_at"),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word]
    key_id: Mapped[MaybeWord]
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    file_name: Mapped[str] = mapped_column(String(NAME_CHARS))
    """What the source is called where it is imported."""
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """How it is to be read."""
    fingerprint: Mapped[Word]
    """Of the spec."""
    idempotency_key: Mapped[str | None] = mapped_column(String(IDEMPOTENCY_KEY_CHARS))
    created_at: Mapped[Seconds]
    expires_at: Mapped[Seconds]
    dataset_id: Mapped[MaybeWord]
    """The data set that it has become, or that was there already."""


class UploadPart(Table):
    """A piece of an upload, all of which is stored."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[Word] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """From 1 on: the order in which they are put together."""
    file_id: Mapped[Word]
    size: Mapped[Count]
    sha256: Mapped[Word]
