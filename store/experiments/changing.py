"""What owners change of experiments beyond their job: names, tags, and that they are gone."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from sqlalchemy import delete as delete_from
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from store import files, judged_by, retention
from store.columns import core, one_of
from store.database import kind_of
from store.errors import VersionMismatch
from store.experiments.finding import get, ids
from store.experiments.listing import Filters
from store.jobs import wishes
from store.jobs.conditions import owned_by
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By
from store.missing import job_not_found
from store.tables import Checkpoint, Experiment, ExperimentTag, Job

_JOB = core(Job).c

_BATCH = 500


def lock(session: Session, experiment_id: str, by: By) -> Experiment:
    """The experiment as it is, and stays until the transaction ends. Raises `ExperimentNotFound`, `VersionMismatch`."""
    statement = select(Job.id).where(Job.id == experiment_id, *by.may()).with_for_update()
    if session.execute(statement).first() is None:
        _refuse(session, experiment_id, by)
    return get(session, experiment_id, owner=by.owner)


def edit(session: Session, experiment_id: str, by: By, changes: Mapping[str, Any]) -> None:
    """Change `name` and `tags` (all of them), in the row and in the stored spec. Raises `ExperimentNotFound`,
    `VersionMismatch`.
    """
    statement = (
        update(core(Job))
        .where(_JOB.id == experiment_id, *by.may())
        .values(version=_JOB.version + 1)
        .returning(_JOB.owner, _JOB.created_at)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        _refuse(session, experiment_id, by)
    table = core(Experiment)
    spec = session.execute(select(table.c.spec).where(table.c.id == experiment_id)).scalar_one()
    values = {**changes, "spec": {**spec, **changes}}
    session.execute(update(table).where(table.c.id == experiment_id).values(values))
    if "tags" in changes:
        session.execute(delete_from(core(ExperimentTag)).where(ExperimentTag.experiment_id == experiment_id))
        place = {"experiment_id": experiment_id, "submitted_by": found.owner, "submitted_at": found.created_at}
        rows = [{**place, "key": key, "value": value} for key, value in changes["tags"].items()]
        if rows:
            session.execute(insert(core(ExperimentTag)), rows)


def delete(session: Session, experiment_id: str, by: By) -> None:
    """Hide an experiment that has ended, for good.

    Raises `ExperimentNotFound`, `VersionMismatch`, `IllegalTransition` before its end, or `InStudy`.
    """
    judged_by.require_free(session, get(session, experiment_id, owner=by.owner).id)
    wishes.delete(session, experiment_id, by)
    _drop_files(session, [experiment_id])


def cancel_all(session: Session, filters: Filters, by: By, limit: int) -> int:
    """Cancel up to `limit` of a listing that can be cancelled; how many were asked or ended."""
    found = _locked(session, _those_in(session, filters, frozenset(State) - TERMINAL, limit), by)
    batches = (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))
    return sum(wishes.ask_all(session, batch, "cancel", by) for batch in batches)


def delete_all(session: Session, filters: Filters, by: By, limit: int) -> int:
    """Delete up to `limit` of a listing that have ended and are of no study; how many."""
    found = _locked(session, _those_in(session, replace(filters, of_no_study=True), TERMINAL, limit), by)
    batches = (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))
    return sum(delete_these(session, batch, by) for batch in batches)


def delete_these(session: Session, experiment_ids: Collection[str], by: By) -> int:
    """Delete those of some, which are locked, that have ended; how many."""
    gone = wishes.delete_all(session, experiment_ids, by)
    _drop_files(session, gone)
    return len(gone)


def _those_in(session: Session, filters: Filters, states: frozenset[State], limit: int) -> list[str]:
    """The newest of a listing that are in some states: the others would only fill the limit."""
    wanted = states & frozenset(filters.states) if filters.states else states
    return ids(session, replace(filters, states=tuple(sorted(wanted))), limit) if wanted else []


def _locked(session: Session, experiment_ids: list[str], by: By) -> list[str]:
    """Those that are still there, in the one order in which all who change many jobs lock them, and wait for no one who
    waits for them.

    On SQLite the transaction has all of the database.
    """
    if kind_of(session) == "sqlite":
        return experiment_ids
    mine = select(_JOB.id).where(one_of(_JOB.id, experiment_ids), *by.may()).order_by(_JOB.id)
    return list(session.execute(mine.with_for_update(key_share=True)).scalars())


def _drop_files(session: Session, experiment_ids: Collection[str]) -> None:
    """Nothing of them can be read any more, with checkpoints or alone."""
    retention.drop(session, one_of(core(Checkpoint).c.experiment_id, experiment_ids))
    files.drop_of_jobs(session, experiment_ids)


def _refuse(session: Session, experiment_id: str, by: By) -> NoReturn:
    version = session.scalars(select(Job.version).where(Job.id == experiment_id, *owned_by(by.owner))).one_or_none()
    if version is None:
        raise job_not_found(experiment_id)
    raise VersionMismatch(version)
