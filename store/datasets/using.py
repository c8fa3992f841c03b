"""Which jobs read which data sets.

Invariant: a data set stays as long as an owner sees a job that reads it. Whoever submits such a job holds the data set
meanwhile, and whoever deletes one holds it too: neither can come between the other's look and its write.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from store.columns import core, one_of
from store.database import Asks
from store.errors import DatasetUnusable
from store.jobs.conditions import IS_VISIBLE, owned_by
from store.jobs.states import State
from store.tables import Dataset, DatasetUse, Job

_JOB, _USE = core(Job).c, core(DatasetUse)
MOST_NAMED = 10
_MOST_CALLED = 3


def hold(session: Asks, owner: str, dataset_ids: Collection[str]) -> None:
    """Keep these until the transaction ends. Raises `DatasetUnusable`."""
    wanted = sorted(set(dataset_ids))
    mine = select(_JOB.id, _JOB.state).where(one_of(_JOB.id, wanted), *owned_by(owner)).order_by(_JOB.id)
    states = {found.id: State(found.state) for found in session.execute(mine.with_for_update(read=True))}
    for dataset_id in wanted:
        if states.get(dataset_id) is not State.SUCCEEDED:
            raise DatasetUnusable(dataset_id, states.get(dataset_id))


def readable(session: Session, owner: str, dataset_id: str) -> Dataset:
    """A data set of that owner which can be read. Raises `DatasetUnusable`."""
    mine = select(Dataset).where(Dataset.id == dataset_id, *owned_by(owner))
    found = session.scalars(mine).one_or_none()
    if found is None or found.state is not State.SUCCEEDED:
        raise DatasetUnusable(
            dataset_id,
            None if found is None else found.state,
            _called(session, owner, dataset_id) if found is None else (),
        )
    return found


def _called(session: Session, owner: str, name: str) -> list[str]:
    """The newest data sets of that name which can be read."""
    mine = select(Dataset.id).where(Dataset.name == name, *owned_by(owner), _JOB.state == State.SUCCEEDED)
    return list(session.scalars(mine.order_by(Dataset.id.desc()).limit(_MOST_CALLED)))


def use(session: Asks, uses: Mapping[str, str]) -> None:
    """Note of jobs, by their ids, which data sets they read; those are held."""
    if uses:
        rows = [{"job_id": job_id, "dataset_id": dataset_id} for job_id, dataset_id in uses.items()]
        session.execute(insert(_USE), rows)


def users(session: Session, dataset_id: str) -> list[str]:
    """Some of the jobs that read it and are not deleted, by kind, oldest first; none, and it may go."""
    # One after the other, and no further than needed: a join would be hashed.
    seen = select(IS_VISIBLE).where(_JOB.id == _USE.c.job_id).scalar_subquery()
    statement = select(_USE.c.job_id).where(_USE.c.dataset_id == dataset_id, seen)
    return list(session.scalars(statement.order_by(_USE.c.job_id).limit(MOST_NAMED)))
