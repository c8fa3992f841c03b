"""Data sets that owners brought in. How far an import is, its job says."""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS
from store.columns import MaybeWord, Seconds, Table, Word
from store.tables.jobs import Job


class Dataset(Job):
    """What was uploaded, how it is to be read, and what came of it; read, it is the job and the data set in one."""

    __tablename__ = "datasets"
    __table_args__: tuple[Any, ...] = (
        # The same upload, asked for in the same way, is the same data set.
        Index("ix_datasets_same", "submitted_by", "source_sha256", "fingerprint"),
    )
    __mapper_args__ = {"polymorphic_identity": "dataset"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    submitted_by: Mapped[Word]
    submitted_at: Mapped[Seconds]
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    file_name: Mapped[str] = mapped_column(String(NAME_CHARS))
    """What the source is called where it is imported."""
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What `import.json` says: the format of the source and how to read it."""
    fingerprint: Mapped[Word]
    """Of the spec."""
    source_size: Mapped[int] = mapped_column(BigInteger)
    source_sha256: Mapped[Word]
    sha256: Mapped[MaybeWord]
    """Of the canonical form: the bytes of its `dataset.json`."""
    manifest: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What `dataset.json` says."""
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class DatasetUse(Table):
    """A job whose spec names a data set: as long as its owner sees the job, the data set stays."""

    __tablename__ = "dataset_uses"
    __table_args__ = (Index("ix_dataset_uses_job_id", "job_id"),)

    dataset_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    job_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
