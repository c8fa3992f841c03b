"""What a worker needs to import a data set, and what it leaves: the data set's part in `store.work`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.jobs.leases import Lease
from store.prepared import Prepared
from store.tables import Dataset
from store.text import finite_json

_SPEC = select(core(Dataset).c.spec).where(core(Dataset).c.id == bindparam("of_dataset"))


def prepare(session: Session, lease: Lease) -> Prepared:
    """How the source is to be read."""
    return Prepared(session.execute(_SPEC, {"of_dataset": lease.job_id}).scalar_one())


def conclude(session: Session, dataset_id: str, result: Mapping[str, Any]) -> None:
    """Store the report."""
    table = core(Dataset)
    session.execute(update(table).where(table.c.id == dataset_id).values(report=finite_json(dict(result))))
