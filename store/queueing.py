"""Jobs of any kind come into the queue, new ones or once more: if their owner has room for them.

Invariant: jobs, the first lines of their logs and the bell are one transaction with whatever a kind adds to them; what
an owner has queued is counted once for all that come together, while nobody else of that owner counts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select
from sqlalchemy.orm import Session

from bncore.run_directory import JobKind
from store import bulk, owners
from store.columns import core, one_of
from store.errors import QuotaExceeded
from store.ids import new_id
from store.jobs import bells, eventlog, turns, wishes
from store.jobs.conditions import IS_QUEUED, still_in_state
from store.jobs.eventlog import Entry, Line
from store.jobs.states import State
from store.jobs.wishes import By
from store.tables import Job, Owner

_JOB, _OWNER = core(Job).c, core(Owner).c

JOB_COLUMNS = tuple(core(Job).c.keys())
# SQLite binds at most 32,766 values in a statement, PostgreSQL 65,535.
ROWS_A_STATEMENT = 500
_PREFIXES: Mapping[JobKind, str] = {
    "experiment": "exp",
    "dataset": "dat",
    "evaluation": "evl",
    "prediction": "prd",
    # Behind all that it waits for: locks are taken in the order of ids.
    "study": "stu",
}


@dataclass(frozen=True)
class Limits:
    """What one owner may have at a time; None: any number."""

    queued_jobs: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Submitter:
    """Whose jobs come, to the queue of which device (cpu or cuda), and the key that was shown."""

    owner: str
    device: str
    key_id: str | None = None


@dataclass(frozen=True)
class Newcomer:
    """A job that comes; where its id is known before, that too."""

    max_restarts: int
    deadline_seconds: float | None = None
    id: str | None = None


def enter(
    connection: Connection,
    kind: JobKind,
    newcomers: Sequence[Newcomer],
    who: Submitter,
    limits: Limits,
    priority: int = 0,
) -> list[dict[str, Any]]:
    """Queue new jobs, in this order; the columns of each that are set. Raises `QuotaExceeded`, and changes nothing."""
    owners.take_turn(connection, who.owner)
    bound = {**turns.place(who.owner, who.device, priority), **_bound(who.owner, limits)}
    queued, stored, mine, claimed, waiting, at = connection.execute(_STANDING, bound).one()
    _check(limits, queued + len(newcomers), stored)
    turn = turns.turn_after(mine, claimed, waiting)
    # As it is shown: who asks for what came before this moment is not shown this.
    at = round(at, 6)
    rows = [_row(kind, one, who, turn + place, at, priority) for place, one in enumerate(newcomers)]
    data = {} if who.key_id is None else {"key_id": who.key_id}
    entry = Entry("submitted", f"Queued for {who.device}.", data)
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        some = rows[start : start + ROWS_A_STATEMENT]
        bulk.insert_rows(connection, core(Job), some)
        eventlog.write(connection, [Line(row["id"], 1, 0, entry) for row in some])
    bells.hang(connection, who.device, len(rows))
    return rows


def resume(session: Session, job_id: str, by: By, limits: Limits) -> None:
    """`wishes.resume`, which also raises `QuotaExceeded` when the owner's queue is full."""
    _require_room(session, job_id, by, (State.PAUSED,), limits)
    wishes.resume(session, job_id, by)


def retry(session: Session, job_id: str, by: By, limits: Limits) -> None:
    """`wishes.retry`, which also raises `QuotaExceeded` when the owner's queue is full."""
    _require_room(session, job_id, by, (State.FAILED, State.CANCELLED), limits)
    wishes.retry(session, job_id, by)


def resume_all(session: Session, owner: str, job_ids: Sequence[str], by: By, limits: Limits) -> int:
    """Queue those of an owner's jobs that are paused, in this order, or none; take back pauses that have not come yet.

    How many that were. Raises `QuotaExceeded`.
    """
    _require_room_for(session, owner, job_ids, (State.PAUSED,), limits)
    return wishes.resume_all(session, job_ids, by)


def retry_all(session: Session, owner: str, job_ids: Sequence[str], by: By, limits: Limits) -> int:
    """Queue those of an owner's jobs that failed or were cancelled again, in this order, or none; how many.

    Raises `QuotaExceeded`.
    """
    _require_room_for(session, owner, job_ids, (State.FAILED, State.CANCELLED), limits)
    return wishes.retry_all(session, job_ids, by)


def _require_room_for(
    session: Session, owner: str, job_ids: Collection[str], states: Collection[State], limits: Limits
) -> None:
    owners.take_turn(session, owner)
    if not job_ids:
        return
    moving = select(func.count()).select_from(Job).where(one_of(Job.id, job_ids), still_in_state(*states))
    queued, stored = session.execute(_ROOM, _bound(owner, limits)).one()
    _check(limits, queued + session.execute(moving).scalar_one(), stored)


def _require_room(session: Session, job_id: str, by: By, states: Collection[State], limits: Limits) -> None:
    """Of a job in one of these states, which is about to be queued."""
    moving = select(Job.owner).where(Job.id == job_id, *by.may(), Job.state.in_(states))
    owner = session.scalars(moving).one_or_none()
    if owner is not None:
        owners.take_turn(session, owner)
        queued, stored = session.execute(_ROOM, _bound(owner, limits)).one()
        _check(limits, queued + 1, stored)


def _room() -> Select[int, int]:
    """How many jobs of an owner wait, counted no further than is allowed, and how many bytes are stored."""
    waiting = select(_JOB.id).where(IS_QUEUED, _JOB.owner == bindparam("of_owner")).limit(bindparam("at_most"))
    stored = select(_OWNER.stored_bytes).where(_OWNER.id == bindparam("of_owner"))
    return select(
        select(func.count()).select_from(waiting.subquery()).scalar_subquery(),
        func.coalesce(stored.scalar_subquery(), 0),
    )


_ROOM = _room()
_STANDING = _ROOM.add_columns(*turns.STANDING.selected_columns)


def _bound(owner: str, limits: Limits) -> dict[str, Any]:
    return {"of_owner": owner, "at_most": limits.queued_jobs or 0}


def _check(limits: Limits, queued: int, stored: int) -> None:
    if limits.queued_jobs is not None and queued > limits.queued_jobs:
        raise QuotaExceeded("queued_jobs", limits.queued_jobs)
    if limits.stored_bytes is not None and stored >= limits.stored_bytes:
        raise QuotaExceeded("stored_bytes", limits.stored_bytes)


def _row(kind: JobKind, newcomer: Newcomer, who: Submitter, turn: int, at: float, priority: int) -> dict[str, Any]:
    return {
        "id": newcomer.id or new_id(_PREFIXES[kind]),
        "kind": kind,
        "owner": who.owner,
        "key_id": who.key_id,
        "state": State.QUEUED,
        "version": 1,
        "queue": who.device,
        "priority": priority,
        "turn": turn,
        "attempt": 0,
        "restarts": 0,
        "max_restarts": newcomer.max_restarts,
        "last_event": 1,
        "deadline_seconds": newcomer.deadline_seconds,
        "paused_seconds": 0.0,
        "created_at": at,
        "queued_at": at,
    }
