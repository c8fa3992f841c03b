"""Predictions: what a checkpoint makes of a few inputs, while somebody waits for it."""

from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Seconds, Word
from store.tables.jobs import Job


class Prediction(Job):
    """A question, and for a moment its answer; read, it is the job and the prediction in one."""

    __tablename__ = "predictions"
    __mapper_args__ = {"polymorphic_identity": "prediction"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    submitted_by: Mapped[Word]
    submitted_at: Mapped[Seconds]
    checkpoint_id: Mapped[Word]
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What `evaluation.json` says."""
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
