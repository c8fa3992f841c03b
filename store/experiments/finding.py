"""Experiments found: one by its id, many by what they have in common.

Invariant: a listing costs what its page holds, however many experiments there are: positions come from an index in its
own order (`store.experiments.listing`, `sorting`), cut off after a page, and the rows are read by their ids.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, case, select
from sqlalchemy.orm import Session

from store import cursors
from store.columns import Words, core, one_of, unattached
from store.database import Asks, clock
from store.errors import ExperimentNotFound
from store.experiments import listing, sorting
from store.experiments.listing import Filters
from store.experiments.sorting import Order
from store.jobs import turns
from store.jobs.conditions import IS_OVER, IS_QUEUED, owned_by
from store.jobs.states import State
from store.tables import Experiment, Job

_JOB = core(Job).c

MAX_PAGE = 100
MOST_AHEAD = 1000


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

    @property
    def seconds_left(self) -> float | None:
        """To the last step of what runs, at the pace of its attempt."""
        row = self.experiment
        if row.state is not State.RUNNING:
            return None
        return sorting.seconds_left(self.at, row.begun_at, row.begun_step, row.step, row.total_steps)


@dataclass(frozen=True)
class Page:
    """Experiments in the order of a listing, and where the next page begins; None after the last."""

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

_VISIBLE = select(_JOB.id).where(one_of(_JOB.id, bindparam("wanted", type_=Words())), *owned_by(None))
_VISIBLE_TO_OWNER = _VISIBLE.where(_JOB.owner == bindparam("wanted_owner"))


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
    statement = _VISIBLE if owner is None else _VISIBLE_TO_OWNER
    return frozenset(one for (one,) in session.execute(statement, {"wanted": experiment_ids, "wanted_owner": owner}))


def page(session: Asks, filters: Filters, cursor: str | None = None, limit: int = 20) -> Page:
    """One page of a listing. Raises `CursorInvalid` for a cursor of other filters or none of ours."""
    limit = max(1, min(limit, MAX_PAGE))
    scope = filters.scope()
    after = None if cursor is None else cursors.decode(cursor, scope)
    found = listing.positions(session, filters, after, limit + 1)
    return Page(
        _rows_of(session, [one for _, one in found[:limit]]),
        cursors.encode(found[limit - 1], scope) if len(found) > limit else None,
    )


def sorted_page(session: Asks, filters: Filters, order: Order, cursor: str | None = None, limit: int = 20) -> Page:
    """The same sorted by what experiments have. Raises `CursorInvalid` for a cursor of another order besides."""
    limit = max(1, min(limit, MAX_PAGE))
    scope, parts = filters.scope(), sorting.parts_of(filters, order)
    kinds = [part.kinds for part in parts]
    after = None if cursor is None else cursors.decode_sorted(cursor, str(order), kinds, scope)
    found = sorting.positions(session, parts, after, limit + 1)
    return Page(
        _rows_of(session, [key[-1] for _, key in found[:limit]]),
        cursors.encode_sorted(found[limit - 1], str(order), scope) if len(found) > limit else None,
    )


def _rows_of(session: Asks, shown: Sequence[str]) -> list[Experiment]:
    rows = {row.id: dict(zip(_NAMES, row, strict=True)) for row in session.execute(_MANY, {"wanted": shown}).all()}
    # On PostgreSQL the two statements see one snapshot only in a session that reads.
    return [unattached(Experiment, rows[one]) for one in shown if one in rows]


def ids(session: Session, filters: Filters, limit: int) -> list[str]:
    """The newest `limit` of a listing, by their ids."""
    return [found_id for _, found_id in listing.positions(session, filters, None, limit)]
