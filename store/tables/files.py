"""Files: named bytes that belong to a job or were brought by an owner, and the bytes themselves in chunks.

Several files of one owner that have the same bytes refer to one content.
"""

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import NAME_CHARS
from store.columns import Count, MaybeSeconds, MaybeWord, Seconds, Table, Word, where

_DROPPED = where("dropped_at IS NOT NULL")
_UNFINISHED = where("whole_at IS NULL AND dropped_at IS NULL")
_UNATTACHED = where("job_id IS NULL AND dropped_at IS NULL")
_UNUSED = where("uses = 0")


class Content(Table):
    """Bytes of one owner, stored once however many of their files have them."""

    __tablename__ = "contents"
    __table_args__ = (
        Index("ix_contents_alike", "owner", "sha256", "size"),
        Index("ix_contents_unused", "id", **_UNUSED),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word]
    sha256: Mapped[Word]
    """As announced; in hex."""
    size: Mapped[Count]
    uses: Mapped[int]
    """How many rows of `files` refer to it; once 0 it stays so, and its bytes go with the next purge."""
    created_at: Mapped[Seconds]
    whole_at: Mapped[MaybeSeconds]
    """Since when other files may refer to it; None before all of it is there, and again once it was found damaged."""


class File(Table):
    """Named bytes; shown once whole, and no longer once dropped."""

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_of_job", "job_id", "kind", "name"),
        Index("ix_files_content_id", "content_id"),
        Index("ix_files_dropped", "dropped_at", **_DROPPED),
        Index("ix_files_unfinished", "job_id", **_UNFINISHED),
        Index("ix_files_unattached", "created_at", **_UNATTACHED),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word]
    job_id: Mapped[MaybeWord] = mapped_column(ForeignKey("jobs.id"))
    """Of which job it is; None while it was only uploaded."""
    name: Mapped[str] = mapped_column(String(NAME_CHARS))
    kind: Mapped[str] = mapped_column(String(32))
    """What it is for: weights, training_state, and so on."""
    step: Mapped[int | None] = mapped_column(BigInteger)
    size: Mapped[Count]
    sha256: Mapped[Word]
    content_id: Mapped[Word] = mapped_column(ForeignKey("contents.id"))
    created_at: Mapped[Seconds]
    whole_at: Mapped[MaybeSeconds]
    dropped_at: Mapped[MaybeSeconds]
    """Set when whatever refers to it gives it up; row and bytes go with the next purge."""


class ContentChunk(Table):
    """One piece of a content; all but its last have `store.files.CHUNK_BYTES`."""

    __tablename__ = "content_chunks"

    content_id: Mapped[Word] = mapped_column(ForeignKey("contents.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
