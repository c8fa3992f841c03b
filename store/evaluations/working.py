"""What a worker needs of an evaluation, and what it leaves: the evaluation's part in `store.work`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store import files
from store.columns import core
from store.evaluations.submitting import WEIGHTS
from store.jobs.leases import Lease
from store.prepared import Data, Prepared
from store.tables import Evaluation
from store.text import finite_json

_SPEC = select(core(Evaluation).c.spec).where(core(Evaluation).c.id == bindparam("of_evaluation"))


def prepare(session: Session, lease: Lease) -> Prepared:
    """What is asked, of which weights, on which data."""
    spec = session.execute(_SPEC, {"of_evaluation": lease.job_id}).scalar_one()
    return Prepared(spec, inputs=held(session, lease.job_id), data=Data.of(spec))


def conclude(session: Session, evaluation_id: str, result: Mapping[str, Any]) -> None:
    """Store the result, and let go of the checkpoint, which is not needed any more."""
    table = core(Evaluation)
    session.execute(update(table).where(table.c.id == evaluation_id).values(result=finite_json(dict(result))))
    files.drop(session, _weights(session, evaluation_id))


def held(session: Session, job_id: str) -> dict[str, tuple[str, ...]]:
    """Where the checkpoint that a job holds has to lie in its run directory, if it holds one."""
    weights = _weights(session, job_id)
    return {"checkpoint/weights.safetensors": (weights[0],)} if weights else {}


def _weights(session: Session, job_id: str) -> list[str]:
    return [file.id for file in files.of_job(session, job_id) if file.kind == WEIGHTS]
