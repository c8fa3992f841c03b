"""Where experiments stand in a listing by age: what filters find, newest first.

Invariant: positions come from one index in its own order (a state, a tag, a name, or all), cut off after a page.
"""

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
    exists,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)

from store import judged_by
from store.columns import core
from store.database import Asks
from store.jobs.conditions import IS_VISIBLE, in_state
from store.jobs.states import State
from store.tables import Experiment, ExperimentTag, Job
from store.tables.jobs import ANY_OWNER, ANY_STATE

JOB, EXPERIMENT = core(Job).c, core(Experiment)
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
class Shape:
    """Which conditions a listing has, whatever they compare with: one statement each."""

    states: tuple[State, ...]
    owned: bool
    tags: tuple[bool, ...]
    """Whether a value is asked for, or the key alone."""
    named: bool
    after: bool
    oldest_first: bool
    begins: bool
    ends: bool
    of_no_study: bool


def positions(
    session: Asks, filters: Filters, after: Position | None, limit: int, *, oldest_first: bool = False
) -> list[Position]:
    """At most so many, behind one of them."""
    shape = shape_of(filters, after=after is not None, oldest_first=oldest_first)
    at, found_id = after or (None, None)
    bound = bound_of(filters) | {"after_at": at, "after_id": found_id, "at_most": limit}
    return [(moment, one) for moment, one in session.execute(_listing(shape), bound).all()]


def shape_of(filters: Filters, *, after: bool, oldest_first: bool) -> Shape:
    """Of what is asked."""
    return Shape(
        states=tuple(sorted(set(filters.states))),
        owned=filters.owner is not None,
        tags=tuple(value is not None for value in filters.tags.values()),
        named=filters.name is not None,
        after=after,
        oldest_first=oldest_first,
        begins=filters.created_from is not None,
        ends=filters.created_before is not None,
        of_no_study=filters.of_no_study,
    )


def bound_of(filters: Filters) -> dict[str, Any]:
    """What its conditions compare with."""
    bound: dict[str, Any] = {
        "owner": filters.owner,
        "name": filters.name,
        "created_from": filters.created_from,
        "created_before": filters.created_before,
    }
    for number, (key, value) in enumerate(filters.tags.items()):
        bound |= {f"key_{number}": key, f"value_{number}": value}
    return bound


@lru_cache(maxsize=256)
def _listing(shape: Shape) -> Select[float, str]:
    if shape.tags or shape.named or len(shape.states) < 2:
        return _part(shape, shape.states)
    # An index gives each state in order; several at once it would have to sort, all of them.
    parts = [select(_part(shape, (state,)).subquery()) for state in shape.states]
    together = union_all(*parts).subquery()
    at, found_id = together.c[0], together.c[1]
    order = (at.asc(), found_id.asc()) if shape.oldest_first else (at.desc(), found_id.desc())
    return select(at, found_id).order_by(*order).limit(bindparam("at_most"))


def _part(shape: Shape, states: tuple[State, ...]) -> Select[float, str]:
    """Positions in the order of the one index that fits best."""
    place = _tagged(shape) if shape.tags else _named() if shape.named else _listed(shape, states)
    statement = select(place.at, place.id).where(*place.conditions)
    if shape.owned:
        statement = statement.where(place.owner == bindparam("owner"))
    shown = and_(IS_VISIBLE, *([in_state(*states)] if states else []))
    if place.id is not JOB.id:
        # Not a join, which a planner without statistics would rather hash and sort than follow in order.
        shown = select(shown).where(JOB.id == place.id).scalar_subquery()
    statement = statement.where(shown)
    if shape.after:
        behind = tuple_(bindparam("after_at"), bindparam("after_id"))
        here = tuple_(place.at, place.id)
        statement = statement.where(here > behind if shape.oldest_first else here < behind)
    if shape.begins:
        statement = statement.where(place.at >= bindparam("created_from"))
    if shape.ends:
        statement = statement.where(place.at < bindparam("created_before"))
    if shape.of_no_study:
        statement = statement.where(judged_by.by_none(place.id))
    order = (place.at.asc(), place.id.asc()) if shape.oldest_first else (place.at.desc(), place.id.desc())
    return statement.order_by(*order).limit(bindparam("at_most"))


Condition = ColumnElement[bool] | TextClause


@dataclass(frozen=True)
class _Place:
    """A table that has what is asked for and what a listing is ordered by."""

    at: SQLColumnExpression[float]
    id: SQLColumnExpression[str]
    owner: SQLColumnExpression[str]
    conditions: tuple[Condition, ...]


def _listed(shape: Shape, states: tuple[State, ...]) -> _Place:
    conditions: list[Condition] = [JOB.kind == literal_column("'experiment'")]
    conditions += [] if shape.owned else [text(ANY_OWNER)]
    conditions += [] if states else [text(ANY_STATE)]
    return _Place(JOB.created_at, JOB.id, JOB.owner, tuple(conditions))


def _named() -> _Place:
    columns = EXPERIMENT.c
    return _Place(columns.submitted_at, columns.id, columns.submitted_by, (columns.name == bindparam("name"),))


def _tagged(shape: Shape) -> _Place:
    """In the order of the first tag; what else is asked is looked up row by row."""
    columns = core(ExperimentTag).c
    conditions: list[Condition] = [*_has_tag(columns, 0, shape)]
    for number in range(1, len(shape.tags)):
        again = core(ExperimentTag).alias().c
        same = again.experiment_id == columns.experiment_id
        conditions += [exists().where(same, *_has_tag(again, number, shape))]
    if shape.named:
        mine = EXPERIMENT.c.id == columns.experiment_id
        conditions += [exists().where(mine, EXPERIMENT.c.name == bindparam("name"))]
    return _Place(columns.submitted_at, columns.experiment_id, columns.submitted_by, tuple(conditions))


def _has_tag(columns: Any, number: int, shape: Shape) -> list[ColumnElement[bool]]:
    conditions = [columns.key == bindparam(f"key_{number}")]
    if shape.tags[number]:
        conditions += [columns.value == bindparam(f"value_{number}")]
    return conditions
