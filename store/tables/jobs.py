"""Jobs: units of work that a worker can hold a lease on, with their log and their bells.

The queue kernel (`store.jobs`) reads and writes these three tables and no others. What a job is about (an experiment)
is a row of another table with the same id.
"""

from typing import Any

from sqlalchemy import JSON, Enum, ForeignKey, Index, String, Text, UniqueConstraint, desc
from sqlalchemy.orm import Mapped, mapped_column

from bncore.spec.limits import DEVICE_MODEL_CHARS
from store.columns import Count, MaybeSeconds, MaybeWord, RowNumber, Seconds, Table, Word, where
from store.jobs.states import State

_STATE = Enum(
    State,
    native_enum=False,
    length=16,
    create_constraint=True,
    name="state",
    values_callable=lambda states: [state.value for state in states],
)
_QUEUED = where("state = 'queued'")
_RUNNING = where("state = 'running'")
_CLAIMED = where("state <> 'queued'")
_TIMED = where("state = 'queued' AND deadline_seconds IS NOT NULL AND first_claimed_at IS NOT NULL")
_VISIBLE = "deleted_at IS NULL"
# Always true, and said only by a statement that asks for no owner, or no state, or is sorted by the end: an index with
# fewer columns, or another order, is then of no use to one that does, which PostgreSQL without statistics would enter
# by it all the same.
ANY_OWNER, ANY_STATE, ANY_END = "owner || '' <> ''", "state || '' <> ''", "coalesce(finished_at, 0) >= 0"
_DELETED = where("deleted_at IS NOT NULL")


class Job(Table):
    """One unit of work, however often it is tried; its kind says which table has the rest of it."""

    __tablename__ = "jobs"
    __table_args__: tuple[Any, ...] = (
        # The order of claims, and who of an owner is last in it.
        Index("ix_jobs_claim", "queue", desc("priority"), "turn", "created_at", "id", **_QUEUED),
        Index("ix_jobs_turn", "owner", "queue", "priority", "turn"),
        Index("ix_jobs_claimed_turn", "queue", "priority", "turn", **_CLAIMED),
        Index("ix_jobs_waiting", "owner", **_QUEUED),
        Index("ix_jobs_lease", "lease_expires_at", **_RUNNING),
        Index("ix_jobs_running", "owner", **_RUNNING),
        Index("ix_jobs_deadline", "deadline_seconds", **_TIMED),
        # Listings: with and without an owner, with and without a state.
        Index("ix_jobs_listed", "kind", "created_at", "id", **where(_VISIBLE, ANY_OWNER, ANY_STATE)),
        Index("ix_jobs_listed_state", "kind", "state", "created_at", "id", **where(_VISIBLE, ANY_OWNER)),
        Index("ix_jobs_owned", "kind", "owner", "created_at", "id", **where(_VISIBLE, ANY_STATE)),
        Index("ix_jobs_owned_state", "kind", "owner", "state", "created_at", "id", **where(_VISIBLE)),
        Index("ix_jobs_ended", "kind", "finished_at", "id", **where(_VISIBLE, ANY_OWNER, ANY_END)),
        Index("ix_jobs_owned_ended", "kind", "owner", "finished_at", "id", **where(_VISIBLE, ANY_END)),
        Index("ix_jobs_deleted", "deleted_at", **_DELETED),
    )
    __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012  (its type is the superclass's)

    id: Mapped[Word] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    owner: Mapped[Word]
    key_id: Mapped[MaybeWord]
    """The API key that submitted it."""

    state: Mapped[State] = mapped_column(_STATE)
    desired: Mapped[str | None] = mapped_column(String(16))
    """What was asked of a running job: cancel, pause or kill."""
    phase: Mapped[str | None] = mapped_column(String(32))
    version: Mapped[int]
    """Grows with every visible change; the ETag is made of it."""

    queue: Mapped[str] = mapped_column(String(16))
    """The device it waits for: cpu or cuda."""
    priority: Mapped[int]
    turn: Mapped[Count]
    """Its place among equals: jobs of one owner take one turn each, so that owners alternate (`store.jobs.turns`)."""
    not_before: Mapped[MaybeSeconds]
    """Not claimed earlier than this."""
    attempt: Mapped[int]
    restarts: Mapped[int]
    max_restarts: Mapped[int]

    lease_token: Mapped[MaybeWord]
    lease_seconds: Mapped[MaybeSeconds]
    """How long one renewal lasts; said by who claimed."""
    lease_expires_at: Mapped[MaybeSeconds]
    process_id: Mapped[MaybeWord]
    pinned_device_kind: Mapped[str | None] = mapped_column(String(16))
    pinned_device_model: Mapped[str | None] = mapped_column(String(DEVICE_MODEL_CHARS))
    pinned_torch_version: Mapped[MaybeWord]

    failure_code: Mapped[MaybeWord]
    failure_message: Mapped[str | None] = mapped_column(Text)
    last_event: Mapped[Count]
    """Number of the newest line of the event log."""

    deadline_seconds: Mapped[MaybeSeconds]
    """Seconds since the first claim, pauses excluded."""
    paused_seconds: Mapped[Seconds]
    """What does not count towards the deadline: pauses, and jumps of the clock."""
    paused_at: Mapped[MaybeSeconds]
    created_at: Mapped[Seconds]
    queued_at: Mapped[Seconds]
    first_claimed_at: Mapped[MaybeSeconds]
    claimed_at: Mapped[MaybeSeconds]
    started_at: Mapped[MaybeSeconds]
    finished_at: Mapped[MaybeSeconds]
    deleted_at: Mapped[MaybeSeconds]

    @property
    def waiting_for(self) -> str | None:
        """What a queued job waits for: any worker of its queue, or one like the one that began it."""
        if self.state is not State.QUEUED:
            return None
        return "worker" if self.pinned_device_model is None else f"worker with {self.pinned_device_model}"

    @property
    def device(self) -> str:
        """The queue, as users call it."""
        return self.queue


class JobEvent(Table):
    """One line of a job's log; lines are only added, and numbered without gaps."""

    __tablename__ = "job_events"
    __table_args__ = (UniqueConstraint("job_id", "number"), {"sqlite_autoincrement": True})

    sequence: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    """Grows over all jobs, so that the lines of many can be read in one order."""
    job_id: Mapped[Word] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[Count]
    attempt: Mapped[int]
    kind: Mapped[Word]
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[Seconds]
    trainer_at: Mapped[MaybeSeconds]
    """The trainer's own time of an event it wrote: with attempt and kind it tells a repeated line from a new one."""


class Bell(Table):
    """The outbox: a queue that has to be rung. Written with the change that made rows queued."""

    __tablename__ = "bells"
    # A number is never used again: whoever deletes a bell it rang must not hit a newer one.
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    queue: Mapped[str] = mapped_column(String(16))
    jobs: Mapped[int]
    """How many became queued."""
