"""What trainers print."""

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Count, Table, Word


class JobLog(Table):
    """A piece of what the trainer of one attempt has printed (`store.logs`)."""

    __tablename__ = "job_logs"

    job_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start: Mapped[Count] = mapped_column(primary_key=True, autoincrement=False)
    """How many bytes were printed before it; where pieces were given up, a number is left out."""
    size: Mapped[int]
    data: Mapped[bytes] = mapped_column(LargeBinary)
