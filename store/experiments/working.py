"""What a worker needs of an experiment, and what it leaves: the experiment's part in `store.work`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.experiments.rewind import rewind
from store.jobs import eventlog, leases
from store.jobs.eventlog import Entry
from store.jobs.leases import Lease, Worker
from store.jobs.moves import Moved
from store.prepared import Data, Prepared
from store.tables import Checkpoint, Experiment
from store.text import finite_json

_SPEC = select(core(Experiment).c.spec).where(core(Experiment).c.id == bindparam("of_experiment"))


def prepare(session: Session, lease: Lease, moved: Moved, worker: Worker) -> Prepared:
    """Set it back to its newest restorable checkpoint; the first attempt has nothing to go back from."""
    checkpoint = rewind(session, lease.job_id) if moved.attempt > 1 else None
    doubt = _doubt(session, lease, moved, worker, checkpoint)
    spec = session.execute(_SPEC, {"of_experiment": lease.job_id}).scalar_one()
    return Prepared(spec, data=Data.of(spec), restore=checkpoint, not_bit_exact=doubt)


def conclude(session: Session, experiment_id: str, stop_reason: str, summary: Mapping[str, Any]) -> None:
    """Store the result."""
    values = {"stop_reason": stop_reason, "summary": finite_json(dict(summary))}
    table = core(Experiment)
    session.execute(update(table).where(table.c.id == experiment_id).values(values))


def _doubt(session: Session, lease: Lease, moved: Moved, worker: Worker, checkpoint: Checkpoint | None) -> str | None:
    if moved.pinned_torch_version == worker.torch_version:
        return None
    if checkpoint is None:
        # Nothing of another torch version is left in it.
        leases.pin_torch(session, lease, worker.torch_version)
        return None
    doubt = f"Began with torch {moved.pinned_torch_version}, resumes with torch {worker.torch_version}."
    eventlog.append(session, lease.job_id, lease.attempt, [Entry("not_bit_exact", doubt)])
    return doubt
