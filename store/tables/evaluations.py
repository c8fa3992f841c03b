"""Evaluations: a checkpoint measured on data. How far one is, its job says."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Seconds, Word
from store.tables.jobs import Job


class Evaluation(Job):
    """What is measured and what came of it; read, it is the job and the evaluation in one."""

    __tablename__ = "evaluations"
    __table_args__: tuple[Any, ...] = (
        Index("ix_evaluations_listed", "experiment_id", "submitted_at", "id"),
        Index("ix_evaluations_checkpoint_id", "checkpoint_id"),
    )
    __mapper_args__ = {"polymorphic_identity": "evaluation"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    submitted_by: Mapped[Word]
    submitted_at: Mapped[Seconds]
    experiment_id: Mapped[Word]
    """Whose checkpoint it is. It may be gone by now."""
    checkpoint_id: Mapped[Word]
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What `evaluation.json` says."""
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
