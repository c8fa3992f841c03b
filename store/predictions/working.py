"""What a worker needs of a prediction, and what it leaves: the prediction's part in `store.work`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store import held
from store.columns import core
from store.jobs.leases import Lease
from store.prepared import Prepared
from store.tables import Prediction
from store.text import finite_json

_SPEC = select(core(Prediction).c.spec).where(core(Prediction).c.id == bindparam("of_prediction"))


def prepare(session: Session, lease: Lease) -> Prepared:
    """What is asked, and of which weights."""
    spec = session.execute(_SPEC, {"of_prediction": lease.job_id}).scalar_one()
    return Prepared(spec, inputs=held.inputs(session, lease.job_id))


def conclude(session: Session, prediction_id: str, result: Mapping[str, Any]) -> None:
    """Store the answer."""
    table = core(Prediction)
    session.execute(update(table).where(table.c.id == prediction_id).values(result=finite_json(dict(result))))
