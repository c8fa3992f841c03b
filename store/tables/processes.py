"""Relays and workers that say they live."""

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import DEVICE_MODEL_CHARS, HOST_CHARS, TROUBLE_CHARS
from store.columns import MaybeWord, Seconds, Table, Word


class Process(Table):
    """A relay or worker that says it lives."""

    __tablename__ = "processes"

    id: Mapped[Word] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(HOST_CHARS))
    pid: Mapped[int]
    device: Mapped[str | None] = mapped_column(String(16))
    device_model: Mapped[str | None] = mapped_column(String(DEVICE_MODEL_CHARS))
    versions: Mapped[dict[str, str]] = mapped_column(JSON)
    broker_ok: Mapped[bool | None]
    job_id: Mapped[MaybeWord]
    """What a worker works on."""
    trouble: Mapped[str | None] = mapped_column(String(TROUBLE_CHARS))
    """Why it claims nothing at the moment, if so."""
    started_at: Mapped[Seconds]
    heartbeat_at: Mapped[Seconds] = mapped_column(index=True)
