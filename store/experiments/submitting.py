"""Experiments come in: one, or thousands in one transaction.

Invariant: what a spec comes to is worked out before the transaction (`Submission.of`), so that inside it only
statements happen; the job, the experiment, its tags, the first line of its log and the bell are one transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, insert, select
from sqlalchemy.orm import Session

from bncore.spec import SPEC_VERSION, ExperimentSpec, fingerprint_of, plan
from store import owners
from store.columns import core, unattached
from store.errors import QuotaExceeded
from store.ids import new_id
from store.jobs import bells, eventlog, turns
from store.jobs.conditions import IS_QUEUED
from store.jobs.eventlog import Entry, Line
from store.jobs.states import State
from store.tables import Experiment, ExperimentTag, Job, Owner

_JOB, _OWNER = core(Job).c, core(Owner).c

# SQLite binds at most 32,766 values in a statement, PostgreSQL 65,535.
_ROWS_A_STATEMENT = 500


@dataclass(frozen=True)
class Submission:
    """A spec with everything that is stored of it."""

    document: dict[str, Any]
    fingerprint: str
    name: str | None
    tags: dict[str, str]
    total_steps: int
    max_restarts: int
    deadline_seconds: float | None
    retry_of: str | None = None

    @classmethod
    def of(cls, spec: ExperimentSpec, *, retry_of: str | None = None) -> "Submission":
        text = spec.canonical_json()
        return cls(
            document=json.loads(text),
            fingerprint=fingerprint_of(text),
            name=spec.name,
            tags=dict(spec.tags),
            total_steps=plan(spec).total_steps,
            max_restarts=spec.max_restarts,
            deadline_seconds=spec.deadline_seconds,
            retry_of=retry_of,
        )


@dataclass(frozen=True)
class Limits:
    """What one owner may have at a time; None: any number."""

    queued_jobs: int | None = None
    stored_bytes: int | None = None


def submit(
    session: Session,
    submission: Submission,
    *,
    owner: str,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> Experiment:
    """Queue a new experiment on the queue of `device` (cpu or cuda). Raises `QuotaExceeded`."""
    return submit_many(session, [submission], owner=owner, device=device, key_id=key_id, limits=limits)[0]


def submit_many(
    session: Session,
    submissions: Sequence[Submission],
    *,
    owner: str,
    device: str,
    key_id: str | None = None,
    limits: Limits | None = None,
) -> list[Experiment]:
    """Queue many, in this order, all or none. Raises `QuotaExceeded`.

    The rows that come back are as they were stored, and belong to no session.
    """
    limits = limits or Limits()
    connection = session.connection()
    owners.take_turn(connection, owner)
    bound = {**turns.place(owner, device, 0), **_bound(owner, limits)}
    queued, stored, mine, claimed, waiting, at = connection.execute(_STANDING, bound).one()
    _check(limits, queued + len(submissions), stored)
    first_turn = turns.turn_after(mine, claimed, waiting)
    # As it is shown: who asks for what came before this moment is not shown this.
    at = round(at, 6)
    made = []
    for start in range(0, len(submissions), _ROWS_A_STATEMENT):
        rows = [
            _row(submission, owner, device, key_id, first_turn + start + place, at)
            for place, submission in enumerate(submissions[start : start + _ROWS_A_STATEMENT])
        ]
        _insert(connection, rows)
        made += [unattached(Experiment, row, (*_JOB_COLUMNS, *_EXPERIMENT_COLUMNS)) for row in rows]
    bells.hang(connection, device, len(submissions))
    return made


def require_room(session: Session, owner: str, wanted: int, limits: Limits) -> None:
    """Raise `QuotaExceeded` unless the owner may queue so many more, and has room for what they will store."""
    owners.take_turn(session, owner)
    queued, stored = session.execute(_ROOM, _bound(owner, limits)).one()
    _check(limits, queued + wanted, stored)


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


def _row(submission: Submission, owner: str, device: str, key_id: str | None, turn: int, at: float) -> dict[str, Any]:
    """The columns of the job and of the experiment."""
    return {
        "id": new_id("exp"),
        "kind": "experiment",
        "owner": owner,
        "key_id": key_id,
        "state": State.QUEUED,
        "version": 1,
        "queue": device,
        "priority": 0,
        "turn": turn,
        "attempt": 0,
        "restarts": 0,
        "max_restarts": submission.max_restarts,
        "last_event": 1,
        "deadline_seconds": submission.deadline_seconds,
        "paused_seconds": 0.0,
        "created_at": at,
        "queued_at": at,
        "submitted_by": owner,
        "submitted_at": at,
        "name": submission.name,
        "tags": submission.tags,
        "spec": submission.document,
        "spec_version": SPEC_VERSION,
        "fingerprint": submission.fingerprint,
        "retry_of": submission.retry_of,
        "step": 0,
        "total_steps": submission.total_steps,
    }


_JOB_COLUMNS = tuple(core(Job).c.keys())
_EXPERIMENT_COLUMNS = tuple(core(Experiment).c.keys())
_INSERT_JOBS, _INSERT_EXPERIMENTS, _INSERT_TAGS = (
    insert(core(Job)),
    insert(core(Experiment)),
    insert(core(ExperimentTag)),
)


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    connection.execute(_INSERT_JOBS, [_only(row, _JOB_COLUMNS) for row in rows])
    connection.execute(_INSERT_EXPERIMENTS, [_only(row, _EXPERIMENT_COLUMNS) for row in rows])
    tags = [
        {
            "experiment_id": row["id"],
            "key": key,
            "value": value,
            "submitted_by": row["owner"],
            "submitted_at": row["created_at"],
        }
        for row in rows
        for key, value in row["tags"].items()
    ]
    if tags:
        connection.execute(_INSERT_TAGS, tags)
    eventlog.write(connection, [Line(row["id"], 1, 0, _submitted(row)) for row in rows])


def _submitted(row: dict[str, Any]) -> Entry:
    data = {} if row["key_id"] is None else {"key_id": row["key_id"]}
    return Entry("submitted", f"Queued for {row['queue']}.", data)


def _only(row: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in columns if name in row}
