"""The tables. What a column means is said here; who may change it, in the module that does.

Invariant: everything an experiment is lives under its id, and bytes (segments, chunks) hang on rows that are deleted
only after them.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Enum,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from store.columns import Count, MaybeSeconds, MaybeWord, NanDouble, RowNumber, Seconds, Table, Word
from store.states import State

_STATE = Enum(
    State,
    native_enum=False,
    length=16,
    create_constraint=True,
    name="state",
    values_callable=lambda states: [state.value for state in states],
)
# Claims look among queued rows only, which are few beside all that ever were.
_QUEUED = text("state = 'queued'")


class Experiment(Table):
    """One spec, one training run, however often it is restarted."""

    __tablename__ = "experiments"
    __table_args__ = (
        Index(None, "device", "created_at", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index(None, "lease_expires_at"),
        Index(None, "device", "claimed_at"),
        Index(None, "created_at", "id"),
        Index(None, "state", "created_at", "id"),
        Index(None, "deleted_at"),
    )

    id: Mapped[Word] = mapped_column(primary_key=True)
    owner: Mapped[Word]
    name: Mapped[str | None] = mapped_column(String(200), index=True)
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec_version: Mapped[int]
    fingerprint: Mapped[Word]
    retry_of: Mapped[MaybeWord]

    state: Mapped[State] = mapped_column(_STATE)
    desired: Mapped[str | None] = mapped_column(String(16))
    """What was asked of a running experiment: cancel or pause."""
    phase: Mapped[str | None] = mapped_column(String(32))
    waiting_for: Mapped[str | None] = mapped_column(String(300))
    version: Mapped[int]
    """Grows with every visible change; the ETag is made of it."""

    device: Mapped[str] = mapped_column(String(16))
    """cpu or cuda: the queue."""
    priority: Mapped[int]
    attempt: Mapped[int]
    restarts: Mapped[int]
    max_restarts: Mapped[int]
    lease_token: Mapped[MaybeWord]
    lease_expires_at: Mapped[MaybeSeconds]
    process_id: Mapped[MaybeWord]
    pinned_device_kind: Mapped[str | None] = mapped_column(String(16))
    pinned_device_model: Mapped[str | None] = mapped_column(String(200))
    pinned_torch_version: Mapped[MaybeWord]

    step: Mapped[Count]
    total_steps: Mapped[Count]
    stop_reason: Mapped[str | None] = mapped_column(String(32))
    failure_code: Mapped[MaybeWord]
    failure_message: Mapped[str | None] = mapped_column(Text)
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    last_event: Mapped[Count]
    """Number of the newest line of the event log."""

    deadline_seconds: Mapped[MaybeSeconds]
    """Seconds since the first claim, pauses excluded."""
    paused_seconds: Mapped[Seconds]
    paused_at: Mapped[MaybeSeconds]
    created_at: Mapped[Seconds]
    queued_at: Mapped[Seconds]
    first_claimed_at: Mapped[MaybeSeconds]
    claimed_at: Mapped[MaybeSeconds]
    started_at: Mapped[MaybeSeconds]
    finished_at: Mapped[MaybeSeconds]
    deleted_at: Mapped[MaybeSeconds]


class ExperimentTag(Table):
    """A tag again, as a row to search by."""

    __tablename__ = "experiment_tags"
    __table_args__ = (Index(None, "key", "value", "experiment_id"),)

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    value: Mapped[str] = mapped_column(String(500))


class ExperimentEvent(Table):
    """One line of an experiment's log; lines are only added, and numbered without gaps."""

    __tablename__ = "experiment_events"

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[Count] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    kind: Mapped[Word]
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[Seconds]
    trainer_at: Mapped[MaybeSeconds]
    """The trainer's own time of an event it wrote: with attempt and kind it tells a repeated line from a new one."""


class Bell(Table):
    """The outbox: a queue that has to be rung. Written with the change that made a row queued."""

    __tablename__ = "outbox"
    # A number is never used again: whoever deletes a bell it rang must not hit a newer one.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), index=True)
    device: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[Seconds]


class MetricSeries(Table):
    """A series in one row, so that listings never touch points. `first` to `maximum` may be NaN."""

    __tablename__ = "metric_series"

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    count: Mapped[Count]
    first_step: Mapped[Count]
    last_step: Mapped[Count]
    first: Mapped[float] = mapped_column(NanDouble, nullable=True)
    last: Mapped[float] = mapped_column(NanDouble, nullable=True)
    minimum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    """Of the finite points; NaN when there are none."""
    maximum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    nonfinite: Mapped[Count]


class MetricSegment(Table):
    """A block of points of one series, packed (`store.packing`); never spans a checkpoint step."""

    __tablename__ = "metric_segments"

    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    first_step: Mapped[Count] = mapped_column(primary_key=True, autoincrement=False)
    """In the primary key: two segments of a series cannot start at the same step, whatever attempt wrote them."""
    last_step: Mapped[Count]
    attempt: Mapped[int]
    count: Mapped[int]
    first: Mapped[float] = mapped_column(NanDouble, nullable=True)
    last: Mapped[float] = mapped_column(NanDouble, nullable=True)
    minimum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    maximum: Mapped[float] = mapped_column(NanDouble, nullable=True)
    nonfinite: Mapped[int]
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    points: Mapped[bytes] = mapped_column(LargeBinary)


class Checkpoint(Table):
    """A saved state of training; shown once whole, and no longer once dropped."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("experiment_id", "attempt", "kind", "step"), Index(None, "dropped_at"))

    id: Mapped[Word] = mapped_column(primary_key=True)
    experiment_id: Mapped[Word] = mapped_column(ForeignKey("experiments.id"))
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    """best, last or periodic."""
    step: Mapped[Count]
    epoch: Mapped[int]
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    size: Mapped[Count]
    sha256: Mapped[Word]
    state_size: Mapped[int | None] = mapped_column(BigInteger)
    state_sha256: Mapped[MaybeWord]
    created_at: Mapped[Seconds]
    whole_at: Mapped[MaybeSeconds]
    dropped_at: Mapped[MaybeSeconds]
    """Set when retention, a restart or a deletion gives it up; its bytes go with the next purge."""


class CheckpointChunk(Table):
    """One piece of a checkpoint's file; all but a file's last have `store.blobs.CHUNK_BYTES`."""

    __tablename__ = "checkpoint_chunks"

    checkpoint_id: Mapped[Word] = mapped_column(ForeignKey("checkpoints.id"), primary_key=True)
    file: Mapped[str] = mapped_column(String(16), primary_key=True)
    """weights or state."""
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Process(Table):
    """A relay or worker that says it lives."""

    __tablename__ = "processes"

    id: Mapped[Word] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str | None] = mapped_column(String(16))
    device_model: Mapped[str | None] = mapped_column(String(200))
    versions: Mapped[dict[str, str]] = mapped_column(JSON)
    broker_ok: Mapped[bool | None]
    experiment_id: Mapped[MaybeWord]
    started_at: Mapped[Seconds]
    heartbeat_at: Mapped[Seconds] = mapped_column(index=True)


class ApiKey(Table):
    """A bearer key; the secret itself is shown once and never stored."""

    __tablename__ = "api_keys"

    id: Mapped[Word] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[Word] = mapped_column(unique=True)
    created_at: Mapped[Seconds]
    last_used_at: Mapped[MaybeSeconds]
    revoked_at: Mapped[MaybeSeconds]


class IdempotencyKey(Table):
    """A request that was answered, and by which experiment."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[Word] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(String(8), primary_key=True)
    path: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[Word]
    experiment_id: Mapped[str | None] = mapped_column(
        String(64), ForeignKey("experiments.id", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[Seconds]
    expires_at: Mapped[Seconds] = mapped_column(index=True)
