"""Evaluations found: one by its id, and those of an experiment, or of an owner, newest first.

Invariant: a listing costs what its page holds, and pages do not shift.
"""

from typing import Any

from sqlalchemy import literal_column, select, text, tuple_
from sqlalchemy.orm import Session

from store import cursors
from store.columns import core, one_of
from store.errors import EvaluationNotFound
from store.jobs.conditions import IS_VISIBLE, owned_by
from store.pages import Page
from store.tables import Evaluation, Job
from store.tables.jobs import ANY_OWNER, ANY_STATE

_JOB, _EVALUATION = core(Job).c, core(Evaluation).c


def get(session: Session, evaluation_id: str, *, owner: str | None = None) -> Evaluation:
    """The evaluation as it is now. Raises `EvaluationNotFound`, for deleted ones and those of others too."""
    statement = select(Evaluation).where(Evaluation.id == evaluation_id, *owned_by(owner))
    found = session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()
    if found is None:
        raise EvaluationNotFound(evaluation_id)
    return found


def of_experiment(session: Session, experiment_id: str, cursor: str | None = None, limit: int = 20) -> Page[Evaluation]:
    """One page of those of an experiment. Raises `CursorInvalid`."""
    scope = ["evaluations", experiment_id]
    place = (_EVALUATION.submitted_at, _EVALUATION.id)
    statement = select(*place).where(_EVALUATION.experiment_id == experiment_id)
    seen = select(IS_VISIBLE).where(_JOB.id == _EVALUATION.id).scalar_subquery()
    return _page(session, statement.where(seen), place, scope, cursor, limit)


def of_owner(session: Session, owner: str | None, cursor: str | None = None, limit: int = 20) -> Page[Evaluation]:
    """One page of those of an owner (None: of all), of experiments that are gone too. Raises `CursorInvalid`."""
    place = (_JOB.created_at, _JOB.id)
    mine = [text(ANY_OWNER)] if owner is None else [_JOB.owner == owner]
    statement = select(*place).where(_JOB.kind == literal_column("'evaluation'"), *mine, text(ANY_STATE), IS_VISIBLE)
    return _page(session, statement, place, ["all evaluations", owner], cursor, limit)


def _page(
    session: Session, statement: Any, place: Any, scope: list[Any], cursor: str | None, limit: int
) -> Page[Evaluation]:
    if cursor is not None:
        statement = statement.where(tuple_(*place) < tuple_(*cursors.decode(cursor, scope)))
    at, found_id = place
    found = session.execute(statement.order_by(at.desc(), found_id.desc()).limit(limit + 1)).all()
    shown = [(moment, one) for moment, one in found[:limit]]
    # By their ids in both tables: a join a planner without statistics would rather hash.
    ids = [one for _, one in shown]
    wanted = select(Evaluation).where(one_of(_JOB.id, ids), one_of(_EVALUATION.id, ids))
    rows = {row.id: row for row in session.scalars(wanted)}
    more = len(found) > limit
    return Page([rows[one] for _, one in shown if one in rows], cursors.encode(shown[-1], scope) if more else None)
