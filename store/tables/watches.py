"""What watches over the queue remembers from turn to turn, and from process to process."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Seconds, Table


class Watch(Table):
    """One row a watch: when it last looked, and since when what it sees can be believed (`store.jobs.reaper`)."""

    __tablename__ = "watches"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    looked_at: Mapped[Seconds]
    trusted_from: Mapped[Seconds]
