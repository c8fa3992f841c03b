"""Requests that were answered, so that a repeat is answered alike."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS
from store.columns import MaybeWord, Seconds, Table, Word


class IdempotencyKey(Table):
    """A request that was answered, and by which experiment."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[Word] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(IDEMPOTENCY_KEY_CHARS), primary_key=True)
    fingerprint: Mapped[Word]
    # None once the experiment is purged: a repeat is then told that it is gone.
    experiment_id: Mapped[MaybeWord] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[Seconds]
    expires_at: Mapped[Seconds] = mapped_column(index=True)
