"""The jobs of a sweep, locked in the one order in which all who change many jobs lock them."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from store.columns import core
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import State
from store.tables import Job, SweepExperiment

_JOB, _MEMBER = core(Job).c, core(SweepExperiment).c


def locked(session: Session, sweep_id: str, states: Collection[State], *guards: ColumnElement[bool]) -> list[str]:
    """Its jobs in these states of which all `guards` hold, until the transaction ends; on SQLite it has all of the
    database."""
    statement = (
        select(_JOB.id)
        .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
        .where(_MEMBER.sweep_id == sweep_id, *owned_by(None), still_in_state(*states), *guards)
        .order_by(_JOB.id)
        .with_for_update(key_share=True, of=core(Job))
    )
    return list(session.execute(statement).scalars())
