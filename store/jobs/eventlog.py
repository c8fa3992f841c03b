"""The log of a job: what happened to it, line by line.

Invariant: lines are only added, numbered 1, 2, 3, ... in the order of their commits. The number is taken from the
job's row, whose lock every writer holds, so a reader that asks for lines after n never misses one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import WORD_CHARS
from store import bulk
from store.columns import core
from store.database import Asks
from store.tables import Job, JobEvent
from store.text import finite_json, storable

_JOB, _LINE = core(Job).c, core(JobEvent).c
_LONGER = (
    update(core(Job))
    .where(_JOB.id == bindparam("of_job"))
    .values(last_event=_JOB.last_event + bindparam("more"), version=_JOB.version + 1)
    .returning(_JOB.last_event)
)
_STORED = select(_LINE.kind, _LINE.trainer_at).where(
    _LINE.job_id == bindparam("of_job"),
    _LINE.attempt == bindparam("of_attempt"),
    _LINE.trainer_at.in_(bindparam("of_times", expanding=True)),
)


@dataclass(frozen=True)
class Entry:
    """A line to add. `trainer_at` marks one that the trainer wrote, which is stored once however often it comes."""

    kind: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    trainer_at: float | None = None


@dataclass(frozen=True)
class Line:
    """An entry in its place: `number` was taken from the job's row by the statement that locked it."""

    job_id: str
    number: int
    attempt: int
    entry: Entry


def append(session: Session, job_id: str, attempt: int, entries: Sequence[Entry]) -> None:
    """Add lines to the log of a job whose row the caller has locked; counts as a visible change of the job."""
    fresh = _not_yet_stored(session, job_id, attempt, entries)
    if not fresh:
        return
    newest = session.execute(_LONGER, {"of_job": job_id, "more": len(fresh)}).scalar_one()
    first = newest - len(fresh) + 1
    write(session, [Line(job_id, first + place, attempt, entry) for place, entry in enumerate(fresh)])


def write(session: Asks, lines: Sequence[Line]) -> None:
    """Insert lines that have their numbers."""
    # Of ten thousand jobs at once all lines say the same.
    entries = {id(line.entry): line.entry for line in lines}
    said = {one: _columns(entry) for one, entry in entries.items()}
    rows = [
        {"job_id": line.job_id, "number": line.number, "attempt": line.attempt, **said[id(line.entry)]}
        for line in lines
    ]
    bulk.insert_rows(session, core(JobEvent), rows, at="at")


def page(session: Session, job_id: str, after: int = 0, limit: int = 100) -> list[JobEvent]:
    """Up to `limit` lines with numbers above `after`, oldest first."""
    statement = (
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.number > after)
        .order_by(JobEvent.number)
        .limit(limit)
    )
    return list(session.scalars(statement))


def newest(session: Session, job_id: str, kind: str) -> JobEvent | None:
    """The last line of that kind."""
    mine = (JobEvent.job_id == job_id, JobEvent.kind == kind)
    return session.scalars(select(JobEvent).where(*mine).order_by(JobEvent.number.desc()).limit(1)).one_or_none()


def _columns(entry: Entry) -> dict[str, Any]:
    return {
        "kind": storable(entry.kind, WORD_CHARS),
        "message": storable(entry.message),
        "data": finite_json(entry.data),
        "trainer_at": entry.trainer_at,
    }


def _not_yet_stored(session: Session, job_id: str, attempt: int, entries: Sequence[Entry]) -> list[Entry]:
    """The entries without those of the trainer that an earlier transaction, whose answer was lost, has stored."""
    times = [entry.trainer_at for entry in entries if entry.trainer_at is not None]
    if not times:
        return list(entries)
    bound = {"of_job": job_id, "of_attempt": attempt, "of_times": times}
    stored = {(kind, at) for kind, at in session.execute(_STORED, bound)}
    return [entry for entry in entries if (entry.kind, entry.trainer_at) not in stored]
