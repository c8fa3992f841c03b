"""Sweeps found: one by its id, those of an owner, and the experiments of one.

Invariant: a page costs what it holds, and pages do not shift.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.orm import Session

from store import cursors
from store.columns import core, one_of
from store.errors import SweepNotFound
from store.jobs.conditions import owned_by
from store.pages import Page
from store.tables import Experiment, Job, Sweep, SweepExperiment

_JOB, _MEMBER = core(Job).c, core(SweepExperiment).c


@dataclass(frozen=True)
class Member:
    """An experiment of a sweep, and which point of it."""

    experiment: Experiment
    point: int
    arm: str | None
    seed: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Members:
    """Experiments in the order of the sweep, and where the next page begins; None after the last."""

    rows: list[Member]
    next_cursor: str | None


def get(session: Session, sweep_id: str, *, owner: str | None = None) -> Sweep:
    """The sweep. Raises `SweepNotFound`, for those of others too."""
    return _one(session, sweep_id, Sweep.id == sweep_id, *_owned(owner))


def of_experiment(session: Session, experiment_id: str) -> Sweep:
    """The sweep of an experiment. Raises `SweepNotFound`."""
    mine = select(_MEMBER.sweep_id).where(_MEMBER.experiment_id == experiment_id).scalar_subquery()
    return _one(session, "", Sweep.id == mine)


def page(session: Session, owner: str | None, cursor: str | None = None, limit: int = 20) -> Page[Sweep]:
    """One page of an owner's (None: of all), newest first. Raises `CursorInvalid`."""
    scope = ["sweeps", owner]
    place = (Sweep.created_at, Sweep.id)
    statement = select(Sweep).where(*_owned(owner))
    if cursor is not None:
        statement = statement.where(tuple_(*place) < tuple_(*cursors.decode(cursor, scope)))
    found = list(session.scalars(statement.order_by(*(column.desc() for column in place)).limit(limit + 1)))
    shown, more = found[:limit], len(found) > limit
    return Page(shown, cursors.encode((shown[-1].created_at, shown[-1].id), scope) if more else None)


def axes_of(sweep: Sweep) -> list[str]:
    """The paths at which its points differ."""
    search = sweep.spec.get("search")
    return list(sweep.spec["axes"] if search is None else search["space"])


def members(session: Session, sweep_id: str, cursor: str | None = None, limit: int = 20) -> Members:
    """One page of a sweep's experiments. Raises `CursorInvalid`."""
    scope = ["members", sweep_id]
    shown = select(*owned_by(None)).where(_JOB.id == _MEMBER.experiment_id).scalar_subquery()
    statement = select(core(SweepExperiment)).where(_MEMBER.sweep_id == sweep_id, shown)
    if cursor is not None:
        statement = statement.where(_MEMBER.place > int(cursors.decode(cursor, scope)[0]))
    found = session.execute(statement.order_by(_MEMBER.place).limit(limit + 1)).all()
    here, more = found[:limit], len(found) > limit
    ids = [row.experiment_id for row in here]
    wanted = select(Experiment).where(one_of(_JOB.id, ids), one_of(core(Experiment).c.id, ids))
    rows = {row.id: row for row in session.scalars(wanted)}
    listed = [
        Member(rows[row["experiment_id"]], row["point"], row["arm"], row["seed"], row["values"])
        for row in (found_row._mapping for found_row in here)
        if row["experiment_id"] in rows
    ]
    return Members(listed, cursors.encode((float(here[-1].place), here[-1].experiment_id), scope) if more else None)


def _one(session: Session, sweep_id: str, *which: ColumnElement[bool]) -> Sweep:
    statement = select(Sweep).where(*which)
    found = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if found is None:
        raise SweepNotFound(sweep_id)
    return found


def _owned(owner: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if owner is None else (Sweep.owner == owner,)
