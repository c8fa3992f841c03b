"""Experiments in the order of a column: the statements of `store.experiments.sorting`.

Invariant: a statement enters by an index that has the order, and looks up what else is asked row by row; where filters
leave `FEW` or less it enters by their ids, and sorts those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    SQLColumnExpression,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)

from store import judged_by
from store.columns import Words, core, one_of
from store.database import Asks
from store.experiments import listing
from store.experiments.listing import EXPERIMENT, JOB, Condition, Filters
from store.jobs.conditions import IS_QUEUED, IS_VISIBLE, in_state, still_in_state
from store.tables import ExperimentTag
from store.tables.jobs import ANY_END, ANY_OWNER

FEW = 2000
"""As many are found and sorted in some milliseconds; with more, a page is soon full that goes by the value."""
_QUEUES = ("cpu", "cuda")
"""All devices that a spec can ask for."""
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Column:
    """A column to sort by, with an index of its own: owner, value, `ties`, id; and one without the owner."""

    value: SQLColumnExpression[Any]
    kind: type
    ties: tuple[SQLColumnExpression[Any], ...] = ()
    """Between the value and the id."""
    on_jobs: bool = False

    @property
    def kinds(self) -> tuple[type, ...]:
        """Of the parts of a key; ties are times."""
        return (self.kind, *(float for _ in self.ties), str)

    @property
    def id(self) -> SQLColumnExpression[str]:
        """In the column's own table."""
        return JOB.id if self.on_jobs else EXPERIMENT.c.id


_COLUMNS = EXPERIMENT.c
RANKS = {
    "accuracy": Column(_COLUMNS.accuracy, float),
    "stop": Column(_COLUMNS.stop_reason, str),
    "name": Column(_COLUMNS.name, str, (_COLUMNS.submitted_at,)),
    "ended": Column(JOB.finished_at, float, on_jobs=True),
}


@dataclass(frozen=True)
class Rank:
    """By which column, in which direction; `missing`: those that have no value, newest first."""

    name: str
    downwards: bool
    missing: bool


class Few:
    """What filters find, where that is few; looked for once a page."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self._ids: list[str] | None = None
        self._is_known = False

    def ids(self, session: Asks) -> list[str] | None:
        """None where nothing but the owner is asked for, or where they are many."""
        if not self._is_known and any(self.filters.scope()[1:]):
            found = listing.positions(session, self.filters, None, FEW + 1)
            self._ids = [one for _, one in found] if len(found) <= FEW else None
        self._is_known = True
        return self._ids


def read(session: Asks, few: Few, rank: Rank, after: Key | None, limit: int) -> list[Key]:
    """The keys behind one of them, in order: value, ties, id; without the value where it is missing."""
    ids = few.ids(session)
    if ids is not None:
        statement = _among_few(rank, after is not None)
        bound = {"wanted": ids}
    else:
        statement, bound = _walk(rank, after is not None, shape_of(few.filters)), bound_of(few.filters)
    bound |= {f"after_{number}": one for number, one in enumerate(after or ())} | {"at_most": limit}
    return [tuple(row) for row in session.execute(statement, bound).all()]


def waiting(session: Asks, filters: Filters, downwards: bool, after: Key | None, limit: int) -> list[Key]:
    """What is queued in the order of claims, of all queues together: priority, the greatest first, turn, age, id."""
    bound = bound_of(filters) | {"at_most": limit}
    bound |= {f"after_{number}": one for number, one in enumerate(after or ())}
    statement = _waiting(downwards, after is not None, shape_of(filters))
    return [tuple(row) for row in session.execute(statement, bound).all()]


def among_jobs(statement: Select[Any], filters: Filters) -> tuple[Select[Any], dict[str, Any]]:
    """A statement about few jobs narrowed by filters, but for their states, and what it is given."""
    return statement.where(*_asked_of_jobs(shape_of(filters))), bound_of(filters)


def shape_of(filters: Filters) -> listing.Shape:
    """Which conditions there are, whatever they compare with."""
    return listing.shape_of(filters, after=False, oldest_first=False)


def bound_of(filters: Filters) -> dict[str, Any]:
    """What they compare with."""
    return listing.bound_of(filters)


@lru_cache(maxsize=256)
def _walk(rank: Rank, after: bool, shape: listing.Shape) -> Select[Any]:
    column = RANKS[rank.name]
    return _in_order(rank, after).where(*_walked_jobs(shape) if column.on_jobs else _walked_experiments(shape))


@lru_cache(maxsize=64)
def _among_few(rank: Rank, after: bool) -> Select[Any]:
    wanted: BindParameter[Any] = bindparam("wanted", type_=Words())
    return _in_order(rank, after).where(one_of(RANKS[rank.name].id, wanted))


def _in_order(rank: Rank, after: bool) -> Select[Any]:
    column = RANKS[rank.name]
    behind: tuple[SQLColumnExpression[Any], ...] = (*column.ties, column.id)
    key = behind if rank.missing else (column.value, *behind)
    there = column.value.is_(None) if rank.missing else column.value.is_not(None)
    statement = select(*key).where(there)
    downwards = rank.downwards or rank.missing
    if after:
        statement = statement.where(_behind(key, downwards))
    # Also the value that all are without: so it is the order of the index, which a planner need not prove.
    order = (column.value, *behind)
    return statement.order_by(*(one.desc() if downwards else one.asc() for one in order)).limit(bindparam("at_most"))


def _behind(key: Sequence[SQLColumnExpression[Any]], downwards: bool) -> ColumnElement[bool]:
    bounds: list[BindParameter[Any]] = [bindparam(f"after_{number}") for number, column in enumerate(key)]
    if len(key) == 1:
        return key[0] < bounds[0] if downwards else key[0] > bounds[0]
    here, there = tuple_(*key), tuple_(*bounds)
    return here < there if downwards else here > there


def _walked_experiments(shape: listing.Shape) -> list[Condition]:
    columns = EXPERIMENT.c
    # Looked up together: a planner without statistics would take a time alone for rare, and sort what it finds.
    shown = and_(IS_VISIBLE, *([in_state(*shape.states)] if shape.states else []), *_between(shape))
    conditions: list[Condition] = [select(shown).where(JOB.id == columns.id).scalar_subquery()]
    conditions += [columns.submitted_by == bindparam("owner")] if shape.owned else []
    conditions += [columns.name == bindparam("name")] if shape.named else []
    return [*conditions, *_looked_up(columns.id, shape)]


def _walked_jobs(shape: listing.Shape) -> list[Condition]:
    conditions: list[Condition] = [JOB.kind == literal_column("'experiment'"), IS_VISIBLE, text(ANY_END)]
    conditions += [JOB.owner == bindparam("owner")] if shape.owned else [text(ANY_OWNER)]
    conditions += [still_in_state(*shape.states)] if shape.states else []
    return [*conditions, *_named(shape), *_between(shape), *_looked_up(JOB.id, shape)]


def _asked_of_jobs(shape: listing.Shape) -> list[Condition]:
    """Of what runs or waits, which has indexes of its own: said so that no index of what is visible serves it."""
    conditions: list[Condition] = [func.coalesce(JOB.deleted_at, 0.0) == 0.0]
    conditions += [JOB.owner.concat("") == bindparam("owner")] if shape.owned else []
    return [*conditions, *_named(shape), *_between(shape), *_looked_up(JOB.id, shape)]


def _named(shape: listing.Shape) -> list[Condition]:
    mine = EXPERIMENT.alias().c
    found = select(mine.name == bindparam("name")).where(mine.id == JOB.id)
    return [found.scalar_subquery()] if shape.named else []


def _between(shape: listing.Shape) -> list[ColumnElement[bool]]:
    begins = [JOB.created_at >= bindparam("created_from")] if shape.begins else []
    return [*begins, *([JOB.created_at < bindparam("created_before")] if shape.ends else [])]


def _looked_up(job_id: SQLColumnExpression[str], shape: listing.Shape) -> list[Condition]:
    """Not joined, which a planner without statistics would rather hash than look up."""
    found: list[Condition] = [judged_by.by_none(job_id)] if shape.of_no_study else []
    for number, has_value in enumerate(shape.tags):
        tag = core(ExperimentTag).alias().c
        said = tag.value == bindparam(f"value_{number}") if has_value else literal_column("1 = 1")
        mine = select(said).where(tag.experiment_id == job_id, tag.key == bindparam(f"key_{number}"))
        found.append(mine.scalar_subquery())
    return found


@lru_cache(maxsize=64)
def _waiting(downwards: bool, after: bool, shape: listing.Shape) -> Select[Any]:
    """Of each queue from the index of claims in its own order, and these together."""
    parts = [select(_queue(device, downwards, after, shape).subquery()) for device in _QUEUES]
    columns = union_all(*parts).subquery().c
    order = [one.desc() if downwards else one.asc() for one in columns]
    return select(*columns).order_by(*order).limit(bindparam("at_most"))


def _queue(device: str, downwards: bool, after: bool, shape: listing.Shape) -> Select[Any]:
    behind = (JOB.turn, JOB.created_at, JOB.id)
    key = ((-JOB.priority).label("urgency"), *behind)
    here = [IS_QUEUED, JOB.queue == literal_column(f"'{device}'"), JOB.kind == literal_column("'experiment'")]
    statement = select(*key).where(*here, *_asked_of_jobs(shape))
    if after:
        statement = statement.where(_behind((-JOB.priority, *behind), downwards))
    order = [JOB.priority.asc(), *(one.desc() for one in behind)] if downwards else [JOB.priority.desc(), *behind]
    return statement.order_by(*order).limit(bindparam("at_most"))
