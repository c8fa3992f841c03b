"""What a worker needs of an experiment, and what it leaves: the experiment's part in `store.work`."""

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store import held
from store.columns import core
from store.experiments.rewind import rewind
from store.jobs import eventlog, leases
from store.jobs.eventlog import Entry
from store.jobs.failures import PRUNED, Failure
from store.jobs.leases import Lease, Stop, Worker
from store.jobs.moves import Moved
from store.jobs.states import State
from store.prepared import Data, Prepared
from store.tables import Checkpoint, Experiment, Sweep, SweepExperiment
from store.text import finite_json

_EXPERIMENT, _MEMBER, _SWEEP = (core(one).c for one in (Experiment, SweepExperiment, Sweep))
_SPEC = select(_EXPERIMENT.spec, _EXPERIMENT.rest_at).where(_EXPERIMENT.id == bindparam("of_experiment"))
_REST = (
    select(_EXPERIMENT.rest_at, _MEMBER.pruned_at, _SWEEP.prune_state)
    .join_from(core(Experiment), core(SweepExperiment), _MEMBER.experiment_id == _EXPERIMENT.id)
    .join(core(Sweep), _SWEEP.id == _MEMBER.sweep_id)
    .where(_EXPERIMENT.id == bindparam("of_experiment"))
)
_CONCLUDED = (
    update(core(Experiment))
    .where(_EXPERIMENT.id == bindparam("of_experiment"))
    .values(
        stop_reason=bindparam("found_reason"),
        summary=bindparam("found_summary", type_=_EXPERIMENT.summary.type),
        accuracy=bindparam("found_accuracy"),
    )
)


def prepare(session: Session, lease: Lease, moved: Moved, worker: Worker) -> Prepared:
    """Set it back to its newest restorable checkpoint; the first attempt has nothing to go back from."""
    checkpoint = rewind(session, lease.job_id) if moved.attempt > 1 else None
    doubt = _doubt(session, lease, moved, worker, checkpoint)
    spec, rest_at = session.execute(_SPEC, {"of_experiment": lease.job_id}).one()
    return Prepared(
        spec,
        inputs=_inputs(session, lease.job_id, spec),
        data=Data.of(spec),
        restore=checkpoint,
        not_bit_exact=doubt,
        rest_at=None if rest_at is None else _resting_place(session, lease.job_id)[0],
    )


def rest(session: Session, lease: Lease, step: int) -> Moved:
    """Let it rest at a step, unless its owner wants otherwise, or it was decided meanwhile what it would wait for.

    Raises `StaleLease`.
    """
    answer = leases.renew(session, lease)
    if isinstance(answer, Stop):
        return leases.stop_as_asked(session, lease, State.PAUSED if answer.reason == "pause" else State.CANCELLED)
    rest_at, pruned_at = _resting_place(session, lease.job_id)
    if pruned_at is not None:
        return leases.give_up(session, lease, Failure(PRUNED, f"Pruned at step {pruned_at:,} with its point."))
    if rest_at != step:
        return leases.release(session, lease)
    return leases.halt(session, lease, Entry("rested", f"Rests at step {step:,} until its rung is decided."))


def _resting_place(session: Session, experiment_id: str) -> tuple[int | None, int | None]:
    """The step at which it is to rest, and that at which its point was pruned.

    Where its sweep was cancelled and it alone runs again, nobody would ever decide whether it goes on: it does.
    """
    found = session.execute(_REST, {"of_experiment": experiment_id}).one_or_none()
    if found is None:
        return None, None
    return None if found.prune_state == "stopped" and found.pruned_at is None else found.rest_at, found.pruned_at


def conclude(session: Session, experiment_id: str, stop_reason: str, summary: Mapping[str, Any]) -> None:
    """Store the result."""
    accuracy = summary.get("test_accuracy")
    found = {
        "found_reason": stop_reason,
        "found_summary": finite_json(dict(summary)),
        "found_accuracy": accuracy if isinstance(accuracy, int | float) and math.isfinite(accuracy) else None,
    }
    session.execute(_CONCLUDED, {"of_experiment": experiment_id, **found})


def _inputs(session: Session, experiment_id: str, spec: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The checkpoint that it begins with, which every attempt without one of its own needs."""
    return held.inputs(session, experiment_id) if spec.get("start_from") else {}


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
