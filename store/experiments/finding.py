"""Experiments found: one by its id, many by what they have in common.

Invariant: a listing costs what its page holds, however many experiments there are: the positions come from one index in
its own order (a state, a tag, a name, or all), cut off after a page, and the rows are read by their ids.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, exists, select, tuple_, union_all
from sqlalchemy.orm import Session

from store import cursors
from store.columns import core
from store.errors import ExperimentNotFound
from store.jobs.conditions import IS_VISIBLE, owned_by
from store.jobs.states import TERMINAL, State
from store.tables import Experiment, ExperimentTag, Job

MAX_PAGE = 100
_KIND = Job.kind == "experiment"


@dataclass(frozen=True)
class Filters:
    """What a listing shows: all conditions hold at once."""

    owner: str | None = None
    """None shows those of every owner."""
    states: tuple[State, ...] = ()
    """Any of them; all states when empty."""
    tags: dict[str, str | None] = field(default_factory=dict)
    """None asks for the key alone, whatever its value."""
    name: str | None = None
    """The whole name."""
    created_from: float | None = None
    """Epoch seconds, included."""
    created_before: float | None = None
    """Epoch seconds, not included."""

    def scope(self) -> list[Any]:
        """What a cursor belongs to."""
        return [
            self.owner,
            sorted(self.states),
            sorted(self.tags.items()),
            self.name,
            self.created_from,
            self.created_before,
        ]


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


def get(session: Session, experiment_id: str, *, owner: str | None = None) -> Experiment:
    """The experiment as it is now. Raises `ExperimentNotFound`, for deleted ones and those of others too."""
    statement = select(Experiment).where(Experiment.id == experiment_id, *owned_by(owner))
    row = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if row is None:
        raise ExperimentNotFound(experiment_id)
    return row


def marks(session: Session, experiment_ids: Collection[str]) -> dict[str, Mark]:
    """Version and end of many experiments at once; those that do not exist, or no longer, are left out."""
    statement = select(Job.id, Job.version, Job.state).where(Job.id.in_(experiment_ids), IS_VISIBLE)
    return {found: Mark(version, state in TERMINAL) for found, version, state in session.execute(statement)}


def page(session: Session, filters: Filters, cursor: str | None = None, limit: int = 20) -> Page:
    """One page of a listing. Raises `CursorInvalid` for a cursor of other filters or none of ours."""
    limit = max(1, min(limit, MAX_PAGE))
    scope = filters.scope()
    after = None if cursor is None else cursors.decode(cursor, scope)
    found = _positions(session, filters, after, limit + 1)
    shown = [found_id for _, found_id in found[:limit]]
    statement = select(Experiment).where(Experiment.id.in_(shown))
    rows = {row.id: row for row in session.scalars(statement, execution_options={"populate_existing": True})}
    more = len(found) > limit
    return Page([rows[one] for one in shown], cursors.encode(found[limit - 1], scope) if more else None)


def ids(session: Session, filters: Filters, limit: int) -> list[str]:
    """The newest `limit` of a listing, by their ids."""
    return [found_id for _, found_id in _positions(session, filters, None, limit)]


Position = tuple[float, str]


def _positions(session: Session, filters: Filters, after: Position | None, limit: int) -> list[Position]:
    parts = [_part(filters, state, after, limit) for state in dict.fromkeys(filters.states)]
    if not parts:
        parts = [_part(filters, None, after, limit)]
    if len(parts) == 1:
        return [(at, found_id) for at, found_id in session.execute(parts[0])]
    # An index gives each state in order; several at once it would have to sort, all of them.
    together = union_all(*(select(part.subquery()) for part in parts)).subquery()
    at, found_id = together.c[0], together.c[1]
    statement = select(at, found_id).order_by(at.desc(), found_id.desc()).limit(limit)
    return [(moment, one) for moment, one in session.execute(statement)]


def _part(filters: Filters, state: State | None, after: Position | None, limit: int) -> Select[float, str]:
    """Positions in the order of the one index that fits best."""
    at: SQLColumnExpression[float]
    found_id: SQLColumnExpression[str]
    if filters.tags:
        at, found_id, conditions = _by_tag(filters)
    elif filters.name is not None:
        at, found_id, conditions = _by_name(filters)
    else:
        at, found_id, conditions = Job.created_at, Job.id, [_KIND, *owned_by(filters.owner)]
    statement: Select[float, str] = select(at.label("at"), found_id.label("id"))
    if found_id is not Job.id:
        statement = statement.join(Job, Job.id == found_id)
        conditions += [IS_VISIBLE]
    if state is not None:
        conditions += [Job.state == state]
    if after is not None:
        conditions += [tuple_(at, found_id) < tuple_(*after)]
    if filters.created_from is not None:
        conditions += [at >= filters.created_from]
    if filters.created_before is not None:
        conditions += [at < filters.created_before]
    return statement.where(*conditions).order_by(at.desc(), found_id.desc()).limit(limit)


Where = tuple[SQLColumnExpression[float], SQLColumnExpression[str], list[ColumnElement[bool]]]


def _by_tag(filters: Filters) -> Where:
    (key, value), *others = filters.tags.items()
    conditions: list[ColumnElement[bool]] = [ExperimentTag.key == key]
    if value is not None:
        conditions += [ExperimentTag.value == value]
    if filters.owner is not None:
        conditions += [ExperimentTag.submitted_by == filters.owner]
    if filters.name is not None:
        named = exists().where(core(Experiment).c.id == ExperimentTag.experiment_id)
        conditions += [named.where(core(Experiment).c.name == filters.name)]
    for other, wanted in others:
        again = core(ExperimentTag).alias()
        tagged = exists().where(again.c.experiment_id == ExperimentTag.experiment_id, again.c.key == other)
        conditions += [tagged if wanted is None else tagged.where(again.c.value == wanted)]
    return ExperimentTag.submitted_at, ExperimentTag.experiment_id, conditions


def _by_name(filters: Filters) -> Where:
    columns = core(Experiment).c
    conditions: list[ColumnElement[bool]] = [columns.name == filters.name]
    if filters.owner is not None:
        conditions += [columns.submitted_by == filters.owner]
    return columns.submitted_at, columns.id, conditions
