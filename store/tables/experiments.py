"""Experiments: what is asked and what came of it. How far it is in the queue's eyes is its job's to say."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS, TAG_KEY_CHARS, TAG_VALUE_CHARS
from store.columns import Count, MaybeCount, MaybeSeconds, MaybeWord, Seconds, Table, Word, by_code_points
from store.tables.jobs import Job


class Experiment(Job):
    """One spec, one training run, however often it is restarted; read, it is the job and the experiment in one."""

    __tablename__ = "experiments"
    __table_args__: tuple[Any, ...] = (
        Index("ix_experiments_name", "name", "submitted_at", "id"),
        Index("ix_experiments_owner_name", "submitted_by", "name", "submitted_at", "id"),
        # Sorted listings: what has no value is in them, too, and read from them.
        Index("ix_experiments_accuracy", "accuracy", "id"),
        Index("ix_experiments_owner_accuracy", "submitted_by", "accuracy", "id"),
        Index("ix_experiments_stop", "stop_reason", "id"),
        Index("ix_experiments_owner_stop", "submitted_by", "stop_reason", "id"),
    )
    __mapper_args__ = {"polymorphic_identity": "experiment"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    submitted_by: Mapped[Word]
    """The job's owner again, and below its time: what listings by name are ordered by has to be in one table."""
    submitted_at: Mapped[Seconds]
    name: Mapped[str | None] = mapped_column(by_code_points(NAME_CHARS))
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec_version: Mapped[int]
    fingerprint: Mapped[Word]
    retry_of: Mapped[MaybeWord]
    """The experiment that this one is a clone of."""
    step: Mapped[Count]
    total_steps: Mapped[Count]
    begun_at: Mapped[MaybeSeconds]
    """When the newest attempt began to train, and from which step: below."""
    begun_step: Mapped[int | None] = mapped_column(BigInteger())
    rest_at: Mapped[MaybeCount]
    """The step at which it rests until that is decided which it is for; None: it goes on to its end."""
    stop_reason: Mapped[str | None] = mapped_column(by_code_points(32))
    accuracy: Mapped[float | None] = mapped_column(Double())
    """On the test data, at the last evaluation; None without one, and never NaN."""
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class ExperimentTag(Table):
    """A tag again, as a row to search by."""

    __tablename__ = "experiment_tags"
    __table_args__ = (
        Index("ix_experiment_tags_value", "key", "value", "submitted_at", "experiment_id"),
        Index("ix_experiment_tags_owner_value", "submitted_by", "key", "value", "submitted_at", "experiment_id"),
        Index("ix_experiment_tags_key", "key", "submitted_at", "experiment_id"),
        Index("ix_experiment_tags_owner_key", "submitted_by", "key", "submitted_at", "experiment_id"),
    )

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(TAG_KEY_CHARS), primary_key=True)
    value: Mapped[str] = mapped_column(String(TAG_VALUE_CHARS))
    submitted_by: Mapped[Word]
    submitted_at: Mapped[Seconds]
