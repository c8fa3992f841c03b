"""Saved states of training, and their bytes in chunks."""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Count, MaybeSeconds, MaybeWord, Seconds, Table, Word, where

_DROPPED = where("dropped_at IS NOT NULL")
_UNFINISHED = where("whole_at IS NULL AND dropped_at IS NULL")


class Checkpoint(Table):
    """A saved state of training; shown once whole, and no longer once dropped."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("experiment_id", "attempt", "kind", "step"),
        Index("ix_checkpoints_listed", "experiment_id", "step"),
        Index("ix_checkpoints_dropped", "dropped_at", **_DROPPED),
        Index("ix_checkpoints_unfinished", "experiment_id", **_UNFINISHED),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    """best, last or periodic."""
    step: Mapped[Count]
    epoch: Mapped[int]
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    size: Mapped[Count]
    sha256: Mapped[Word]
    state_size: Mapped[int | None] = mapped_column(BigInteger)
    state_sha256: Mapped[MaybeWord]
    created_at: Mapped[Seconds]
    whole_at: Mapped[MaybeSeconds]
    dropped_at: Mapped[MaybeSeconds]
    """Set when retention, a restart, damage or a deletion gives it up; its bytes go with the next purge."""


class CheckpointChunk(Table):
    """One piece of a checkpoint's file; all but a file's last have `store.blobs.CHUNK_BYTES`."""

    __tablename__ = "checkpoint_chunks"

    checkpoint_id: Mapped[Word] = mapped_column(ForeignKey("checkpoints.id"), primary_key=True)
    file: Mapped[str] = mapped_column(String(16), primary_key=True)
    """weights or state."""
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
