"""Saved states of training: what was saved when, and which files have it."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.columns import Count, MaybeSeconds, MaybeWord, Seconds, Table, Word, where
from store.tables.files import File

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
        Index("ix_checkpoints_weights_id", "weights_id"),
        Index("ix_checkpoints_state_id", "state_id"),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    """best, last or periodic."""
    step: Mapped[Count]
    epoch: Mapped[int]
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    weights_id: Mapped[Word] = mapped_column(ForeignKey("files.id"))
    state_id: Mapped[MaybeWord] = mapped_column(ForeignKey("files.id"))
    """What resuming needs beside the weights; only kind `last` has it."""
    created_at: Mapped[Seconds]
    whole_at: Mapped[MaybeSeconds]
    dropped_at: Mapped[MaybeSeconds]
    """Set, with that of its files, when retention, a restart, damage or a deletion gives it up."""

    # Read with the rows, whose readers may have no session any more; by a statement of its own, which enters by the
    # files' ids where a planner might read all files for a join.
    weights: Mapped[File] = relationship(foreign_keys=weights_id, lazy="selectin", viewonly=True)
    state: Mapped[File | None] = relationship(foreign_keys=state_id, lazy="selectin", viewonly=True)
