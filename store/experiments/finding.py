"""Experiments found: one by its id, many by what they have in common.

Invariant: a listing costs what its page holds, however many experiments there are: the positions come from one index in
its own order (a state, a tag, a name, or all), cut off after a page, and the rows are read by their ids.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    TextClause,
    and_,
    bindparam,
    case,
    exists,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session

from store import cursors, judged_by
from store.columns import Words, core, one_of, unattached
from store.database import Asks, clock
from store.errors import ExperimentNotFound
from store.jobs import turns
from store.jobs.conditions import IS_OVER, IS_QUEUED, IS_VISIBLE, in_state, owned_by
from store.jobs.states import State
from store.tables import Experiment, ExperimentTag, Job
from store.tables.jobs import ANY_OWNER, ANY_STATE

_JOB = core(Job).c

MAX_PAGE = 100
MOST_AHEAD = 1000
Position = tuple[float, str]
"""Where a row is in a listing: when it was submitted, and its id."""


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
    of_no_study: bool = False
    """Those alone that no study is judged by."""

    def scope(self) -> list[Any]:
        """What a cursor belongs to."""
        return [
            self.owner,
            sorted(self.states),
            sorted(self.tags.items()),
            self.name,
            self.created_from,
            self.created_before,
            *([True] if self.of_no_study else []),
        ]


@dataclass(frozen=True)
class Mark:
    """How far something has come, in two words; `version` is another one after each change."""

    version: int | str
    is_terminal: bool


@dataclass(frozen=True)
class Sight:
    """An experiment at a moment."""

    experiment: Experiment
    at: float
    """By the database's clock."""
    ahead: int | None
    """How many of its queue are claimed before it, while it is queued; counted to `counted_to` and no further."""
    counted_to: int = MOST_AHEAD


@dataclass(frozen=True)
class Page:
    """Experiments, newest first, and where the next page begins; None after the last."""

    rows: list[Experiment]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


# Statements are made once: what changes from call to call is bound.
_EXPERIMENT = core(Experiment)
_COLUMNS = (*core(Job).c, *(column for column in _EXPERIMENT.c if column.name != "id"))
_NAMES = tuple(column.name for column in _COLUMNS)
_ROWS = select(*_COLUMNS).join_from(core(Job), _EXPERIMENT, _EXPERIMENT.c.id == _JOB.id)
_ONE = _ROWS.where(_JOB.id == bindparam("wanted"), *owned_by(None))
_ONE_OF_OWNER = _ONE.where(_JOB.owner == bindparam("wanted_owner"))
_SIGHT = _ONE.add_columns(clock(), case((IS_QUEUED, turns.ahead(MOST_AHEAD))))
_SIGHT_OF_OWNER = _SIGHT.where(_JOB.owner == bindparam("wanted_owner"))
_MANY = _ROWS.where(one_of(_JOB.id, bindparam("wanted", type_=Words())))
_MARKS = select(_JOB.id, _JOB.version, IS_OVER).where(
    one_of(_JOB.id, bindparam("wanted", type_=Words())), *owned_by(None)
)


def get(session: Asks, experiment_id: str, *, owner: str | None = None) -> Experiment:
    """The experiment as it is now. Raises `ExperimentNotFound`, for deleted ones and those of others too.

    What it returns is a row to read, which no session follows.
    """
    return _experiment(_found(session, _ONE if owner is None else _ONE_OF_OWNER, experiment_id, owner))


def look(session: Asks, experiment_id: str, *, owner: str | None = None) -> Sight:
    """The experiment as `get` has it, and its place in the queue. Raises `ExperimentNotFound`."""
    statement = _SIGHT if owner is None else _SIGHT_OF_OWNER
    *columns, at, ahead = _found(session, statement, experiment_id, owner)
    return Sight(_experiment(columns), at, None if ahead is None else min(ahead, MOST_AHEAD))


def _found(session: Asks, statement: Select[Any], experiment_id: str, owner: str | None) -> Sequence[Any]:
    found = session.execute(statement, {"wanted": experiment_id, "wanted_owner": owner}).one_or_none()
    if found is None:
        raise ExperimentNotFound(experiment_id)
    return found


def _experiment(columns: Sequence[Any]) -> Experiment:
    return unattached(Experiment, dict(zip(_NAMES, columns, strict=True)))


def marks(session: Session, experiment_ids: Collection[str]) -> dict[str, Mark]:
    """Version and end of many experiments at once; those that do not exist, or no longer, are left out."""
    found = session.execute(_MARKS, {"wanted": experiment_ids})
    return {one: Mark(version, bool(is_over)) for one, version, is_over in found}


def visible(session: Session, experiment_ids: Collection[str], *, owner: str | None = None) -> frozenset[str]:
    """Which of these an owner sees."""
    return frozenset(session.scalars(select(Job.id).where(one_of(Job.id, experiment_ids), *owned_by(owner))))


def page(session: Asks, filters: Filters, cursor: str | None = None, limit: int = 20) -> Page:
    """One page of a listing. Raises `CursorInvalid` for a cursor of other filters or none of ours."""
    limit = max(1, min(limit, MAX_PAGE))
    scope = filters.scope()
    after = None if cursor is None else cursors.decode(cursor, scope)
    found = _positions(session, filters, after, limit + 1)
    shown = [found_id for _, found_id in found[:limit]]
    rows = {row.id: dict(zip(_NAMES, row, strict=True)) for row in session.execute(_MANY, {"wanted": shown}).all()}
    more = len(found) > limit
    # On PostgreSQL the two statements see one snapshot only in a session that reads.
    here = [unattached(Experiment, rows[one]) for one in shown if one in rows]
    return Page(here, cursors.encode(found[limit - 1], scope) if more else None)


def ids(session: Session, filters: Filters, limit: int) -> list[str]:
    """The newest `limit` of a listing, by their ids."""
    return [found_id for _, found_id in _positions(session, filters, None, limit)]


@dataclass(frozen=True)
class _Shape:
    """Which conditions a listing has, whatever they compare with: one statement each."""

    states: tuple[State, ...]
    owned: bool
    tags: tuple[bool, ...]
    """Whether a value is asked for, or the key alone."""
    named: bool
    after: bool
    begins: bool
    ends: bool
    of_no_study: bool


def _positions(session: Asks, filters: Filters, after: Position | None, limit: int) -> list[Position]:
    shape = _Shape(
        states=tuple(sorted(set(filters.states))),
        owned=filters.owner is not None,
        tags=tuple(value is not None for value in filters.tags.values()),
        named=filters.name is not None,
        after=after is not None,
        begins=filters.created_from is not None,
        ends=filters.created_before is not None,
        of_no_study=filters.of_no_study,
    )
    at, found_id = after or (None, None)
    bound: dict[str, Any] = {
        "owner": filters.owner,
        "name": filters.name,
        "after_at": at,
        "after_id": found_id,
        "created_from": filters.created_from,
        "created_before": filters.created_before,
        "at_most": limit,
    }
    for number, (key, value) in enumerate(filters.tags.items()):
        bound |= {f"key_{number}": key, f"value_{number}": value}
    return [(moment, one) for moment, one in session.execute(_listing(shape), bound).all()]


@lru_cache(maxsize=256)
def _listing(shape: _Shape) -> Select[float, str]:
    if shape.tags or shape.named or len(shape.states) < 2:
        return _part(shape, shape.states)
    # An index gives each state in order; several at once it would have to sort, all of them.
    parts = [select(_part(shape, (state,)).subquery()) for state in shape.states]
    together = union_all(*parts).subquery()
    at, found_id = together.c[0], together.c[1]
    return select(at, found_id).order_by(at.desc(), found_id.desc()).limit(bindparam("at_most"))


def _part(shape: _Shape, states: tuple[State, ...]) -> Select[float, str]:
    """Positions in the order of the one index that fits best."""
    place = _tagged(shape) if shape.tags else _named() if shape.named else _listed(shape, states)
    statement = select(place.at, place.id).where(*place.conditions)
    if shape.owned:
        statement = statement.where(place.owner == bindparam("owner"))
    shown = and_(IS_VISIBLE, *([in_state(*states)] if states else []))
    if place.id is not _JOB.id:
        # Not a join, which a planner without statistics would rather hash and sort than follow in order.
        shown = select(shown).where(_JOB.id == place.id).scalar_subquery()
    statement = statement.where(shown)
    if shape.after:
        behind = tuple_(bindparam("after_at"), bindparam("after_id"))
        statement = statement.where(tuple_(place.at, place.id) < behind)
    if shape.begins:
        statement = statement.where(place.at >= bindparam("created_from"))
    if shape.ends:
        statement = statement.where(place.at < bindparam("created_before"))
    if shape.of_no_study:
        statement = statement.where(judged_by.by_none(place.id))
    return statement.order_by(place.at.desc(), place.id.desc()).limit(bindparam("at_most"))


Condition = ColumnElement[bool] | TextClause


@dataclass(frozen=True)
class _Place:
    """A table that has what is asked for and what a listing is ordered by."""

    at: SQLColumnExpression[float]
    id: SQLColumnExpression[str]
    owner: SQLColumnExpression[str]
    conditions: tuple[Condition, ...]


def _listed(shape: _Shape, states: tuple[State, ...]) -> _Place:
    conditions: list[Condition] = [_JOB.kind == literal_column("'experiment'")]
    conditions += [] if shape.owned else [text(ANY_OWNER)]
    conditions += [] if states else [text(ANY_STATE)]
    return _Place(_JOB.created_at, _JOB.id, _JOB.owner, tuple(conditions))


def _named() -> _Place:
    columns = _EXPERIMENT.c
    return _Place(columns.submitted_at, columns.id, columns.submitted_by, (columns.name == bindparam("name"),))


def _tagged(shape: _Shape) -> _Place:
    """In the order of the first tag; what else is asked is looked up row by row."""
    columns = core(ExperimentTag).c
    conditions: list[Condition] = [*_has_tag(columns, 0, shape)]
    for number in range(1, len(shape.tags)):
        again = core(ExperimentTag).alias().c
        same = again.experiment_id == columns.experiment_id
        conditions += [exists().where(same, *_has_tag(again, number, shape))]
    if shape.named:
        mine = _EXPERIMENT.c.id == columns.experiment_id
        conditions += [exists().where(mine, _EXPERIMENT.c.name == bindparam("name"))]
    return _Place(columns.submitted_at, columns.experiment_id, columns.submitted_by, tuple(conditions))


def _has_tag(columns: Any, number: int, shape: _Shape) -> list[ColumnElement[bool]]:
    conditions = [columns.key == bindparam(f"key_{number}")]
    if shape.tags[number]:
        conditions += [columns.value == bindparam(f"value_{number}")]
    return conditions
