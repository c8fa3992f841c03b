"""Data sets found: one by its id, many of an owner. Those that are still uploaded are in `store.datasets.uploads`."""

from sqlalchemy import ColumnElement, TextClause, literal_column, select, text, tuple_
from sqlalchemy.orm import Session

from store import cursors
from store.columns import core, one_of
from store.errors import DatasetNotFound
from store.jobs.conditions import IS_VISIBLE, in_state, owned_by
from store.jobs.states import State
from store.pages import Page
from store.tables import Dataset, Job
from store.tables.jobs import ANY_OWNER, ANY_STATE

MAX_PAGE = 100
_JOB = core(Job).c


def get(session: Session, dataset_id: str, *, owner: str | None) -> Dataset:
    """The data set as it is now. Raises `DatasetNotFound`, for deleted ones and those of others too."""
    found = session.scalars(select(Dataset).where(Dataset.id == dataset_id, *owned_by(owner))).one_or_none()
    if found is None:
        raise DatasetNotFound(dataset_id)
    return found


def page(
    session: Session, owner: str | None, state: State | None = None, cursor: str | None = None, limit: int = 20
) -> Page[Dataset]:
    """A page of an owner's (None: everybody's) data sets, newest first. Raises `CursorInvalid`."""
    scope = ["datasets", owner, state]
    conditions: list[ColumnElement[bool] | TextClause] = [_JOB.kind == literal_column("'dataset'"), IS_VISIBLE]
    conditions += [text(ANY_OWNER)] if owner is None else [_JOB.owner == owner]
    conditions += [text(ANY_STATE)] if state is None else [in_state(state)]
    if cursor is not None:
        conditions += [tuple_(_JOB.created_at, _JOB.id) < tuple_(*cursors.decode(cursor, scope))]
    limit = max(1, min(limit, MAX_PAGE))
    # The positions from one index, which ends after a page, and the rows by their ids in both tables: a join a planner
    # would rather hash and sort.
    positions = select(_JOB.id).where(*conditions).order_by(_JOB.created_at.desc(), _JOB.id.desc()).limit(limit + 1)
    ids = list(session.scalars(positions))
    rows = {
        row.id: row
        for row in session.scalars(select(Dataset).where(one_of(_JOB.id, ids), one_of(core(Dataset).c.id, ids)))
    }
    found = [rows[one] for one in ids if one in rows]
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    return Page(found[:limit], cursors.encode((last.created_at, last.id), scope))
