"""Experiments as their owner sees them: submitted, found, cancelled, deleted.

Invariant: a submitted experiment and the bell that rings its queue are one transaction; a deleted one is gone at once
for every reader, its bytes with later purges (`store.purging`).
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, exists, insert, select, tuple_, update
from sqlalchemy.orm import Session

from bncore.spec import SPEC_VERSION, ExperimentSpec, plan
from store import cursors, eventlog
from store.database import clock
from store.errors import ExperimentNotFound, IllegalTransition
from store.eventlog import Entry
from store.ids import new_id
from store.models import Checkpoint, Experiment, ExperimentTag
from store.purging import purge
from store.states import TERMINAL, State, actions
from store.transitions import log, move, ring

__all__ = ["MAX_PAGE", "Filters", "Mark", "Page", "delete", "get", "marks", "page", "purge", "request_cancel", "submit"]

MAX_PAGE = 100


@dataclass(frozen=True)
class Filters:
    """What a listing shows: all conditions hold at once."""

    states: tuple[State, ...] = ()
    """Any of them; all states when empty."""
    tags: dict[str, str | None] = field(default_factory=dict)
    """None asks for the key alone, whatever its value."""
    name: str | None = None
    """The whole name."""


@dataclass(frozen=True)
class Mark:
    """How far an experiment has come, in two words that cost no more than a primary key to read."""

    version: int
    is_terminal: bool


@dataclass(frozen=True)
class Page:
    """Experiments, newest first, and where the next page begins; None after the last."""

    rows: list[Experiment]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def submit(session: Session, spec: ExperimentSpec, *, owner: str, device: str) -> Experiment:
    """Queue a new experiment on the queue of `device` (cpu or cuda)."""
    statement = insert(Experiment).values(
        id=new_id("exp"),
        owner=owner,
        name=spec.name,
        tags=dict(spec.tags),
        spec=json.loads(spec.canonical_json()),
        spec_version=SPEC_VERSION,
        fingerprint=spec.fingerprint(),
        state=State.QUEUED,
        waiting_for="worker",
        version=1,
        device=device,
        priority=0,
        attempt=0,
        restarts=0,
        max_restarts=spec.max_restarts,
        step=0,
        total_steps=plan(spec).total_steps,
        last_event=0,
        deadline_seconds=spec.deadline_seconds,
        paused_seconds=0.0,
        created_at=clock(),
        queued_at=clock(),
    )
    row = session.scalars(statement.returning(Experiment)).one()
    for key, value in spec.tags.items():
        session.execute(insert(ExperimentTag).values(experiment_id=row.id, key=key, value=value))
    ring(session, row)
    return log(session, row, Entry("submitted", f"Queued for {device}."))


def get(session: Session, experiment_id: str) -> Experiment:
    """The experiment as it is now. Raises `ExperimentNotFound`, for deleted ones too."""
    statement = select(Experiment).where(Experiment.id == experiment_id, Experiment.deleted_at.is_(None))
    row = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if row is None:
        raise ExperimentNotFound(experiment_id)
    return row


def marks(session: Session, experiment_ids: Collection[str]) -> dict[str, Mark]:
    """Version and end of many experiments at once; those that do not exist, or no longer, are left out."""
    statement = select(Experiment.id, Experiment.version, Experiment.state).where(
        Experiment.id.in_(experiment_ids), Experiment.deleted_at.is_(None)
    )
    return {found: Mark(version, state in TERMINAL) for found, version, state in session.execute(statement)}


def page(session: Session, filters: Filters, cursor: str | None = None, limit: int = 20) -> Page:
    """One page of a listing. Raises `CursorInvalid` for a cursor of other filters or none of ours."""
    limit = max(1, min(limit, MAX_PAGE))
    scope = [sorted(filters.states), sorted(filters.tags.items()), filters.name]
    conditions = _conditions(filters)
    if cursor is not None:
        after = cursors.decode(cursor, scope)
        conditions.append(tuple_(Experiment.created_at, Experiment.id) < tuple_(*after))
    statement = select(Experiment).where(*conditions)
    statement = statement.order_by(Experiment.created_at.desc(), Experiment.id.desc()).limit(limit + 1)
    found = list(session.scalars(statement))
    rows = found[:limit]
    more = len(found) > limit
    return Page(rows, cursors.encode((rows[-1].created_at, rows[-1].id), scope) if more else None)


def request_cancel(session: Session, experiment_id: str) -> Experiment:
    """Cancel: at once when nothing runs, else as a wish that the worker hears with its next renewal.

    Repeats, and asking for a terminal experiment, change nothing. Raises `ExperimentNotFound`.
    """
    visible = Experiment.deleted_at.is_(None)
    idle = Experiment.state.in_((State.QUEUED, State.PAUSED))
    moved = move(session, experiment_id, State.CANCELLED, visible, idle)
    if moved is not None:
        return log(session, moved, Entry("cancelled", "Cancelled before it ran on."))
    # Only a running row is left to ask; one that became queued meanwhile keeps the wish off, so look again.
    wish = (
        update(Experiment)
        .where(
            Experiment.id == experiment_id,
            Experiment.state == State.RUNNING,
            Experiment.desired.is_distinct_from("cancel"),
        )
        .values(desired="cancel", version=Experiment.version + 1)
        .returning(Experiment.attempt)
    )
    attempt = session.execute(wish, execution_options={"synchronize_session": False}).scalar_one_or_none()
    if attempt is not None:
        eventlog.append(session, experiment_id, attempt, [Entry("cancel_requested", "The worker will be told.")])
    row = get(session, experiment_id)
    if row.state in (State.QUEUED, State.PAUSED):
        return request_cancel(session, experiment_id)
    return row


def delete(session: Session, experiment_id: str) -> None:
    """Hide a terminal experiment for good. Raises `ExperimentNotFound`, or `IllegalTransition` before its end."""
    statement = (
        update(Experiment)
        .where(Experiment.id == experiment_id, Experiment.state.in_(TERMINAL), Experiment.deleted_at.is_(None))
        .values(deleted_at=clock(), version=Experiment.version + 1)
        .returning(Experiment.id)
    )
    if session.execute(statement, execution_options={"synchronize_session": False}).first() is None:
        row = get(session, experiment_id)
        raise IllegalTransition(row.state, actions(row.state))
    dropped = (
        update(Checkpoint)
        .where(Checkpoint.experiment_id == experiment_id, Checkpoint.dropped_at.is_(None))
        .values(dropped_at=clock())
    )
    session.execute(dropped, execution_options={"synchronize_session": False})


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Experiment.deleted_at.is_(None)]
    if filters.states:
        conditions.append(Experiment.state.in_(filters.states))
    if filters.name is not None:
        conditions.append(Experiment.name == filters.name)
    for key, value in filters.tags.items():
        tagged = exists().where(ExperimentTag.experiment_id == Experiment.id, ExperimentTag.key == key)
        conditions.append(tagged if value is None else tagged.where(ExperimentTag.value == value))
    return conditions
