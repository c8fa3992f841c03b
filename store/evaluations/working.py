"""What a worker needs of an evaluation, and what it leaves: the evaluation's part in `store.work`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.jobs.leases import Lease
from store.prepared import Data, Prepared
from store.tables import Evaluation
from store.text import finite_json

_SPEC = select(core(Evaluation).c.spec).where(core(Evaluation).c.id == bindparam("of_evaluation"))


def prepare(session: Session, lease: Lease) -> Prepared:
    """What is asked, and on which data."""
    spec = session.execute(_SPEC, {"of_evaluation": lease.job_id}).scalar_one()
    return Prepared(spec, data=Data.of(spec))


def conclude(session: Session, evaluation_id: str, result: Mapping[str, Any]) -> None:
    """Store the result."""
    table = core(Evaluation)
    session.execute(update(table).where(table.c.id == evaluation_id).values(result=finite_json(dict(result))))
