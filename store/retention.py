"""Which checkpoints of an experiment stay.

Invariant: the newest whole `last` stays, because training resumes from it; so does the newest `best` at or before it,
because a run that is set back to that `last` still needs its best; and every `best` after it. A checkpoint is given up
together with its files.
"""

from sqlalchemy import ColumnElement, Row, bindparam, select, update
from sqlalchemy.orm import Session

from store import files
from store.columns import core, one_of
from store.database import clock
from store.tables import Checkpoint

_CHECKPOINT = core(Checkpoint).c
_WHOLE = select(_CHECKPOINT.id, _CHECKPOINT.kind, _CHECKPOINT.step, _CHECKPOINT.attempt).where(
    _CHECKPOINT.experiment_id == bindparam("of_experiment"),
    _CHECKPOINT.whole_at.is_not(None),
    _CHECKPOINT.dropped_at.is_(None),
)


def retain(session: Session, experiment_id: str, *, keep_periodic: bool) -> None:
    """Give up checkpoints that newer whole ones replace; with `keep_periodic` an old `last` becomes `periodic`."""
    rows = session.execute(_WHOLE, {"of_experiment": experiment_id}).all()
    lasts = [row for row in rows if row.kind == "last"]
    if not lasts:
        return
    newest_last = max(lasts, key=_age)
    old_lasts = [row.id for row in lasts if _age(row) < _age(newest_last)]
    reached = [row for row in rows if row.kind == "best" and row.step <= newest_last.step]
    # By the attempt too: one that began again after its last checkpoint makes the best of that step again.
    newest_best = max(map(_age, reached), default=(0, 0))
    old_bests = [row.id for row in reached if _age(row) < newest_best]
    table = core(Checkpoint)
    if keep_periodic and old_lasts:
        session.execute(update(table).where(one_of(table.c.id, old_lasts)).values(kind="periodic"))
    replaced = old_bests if keep_periodic else [*old_lasts, *old_bests]
    if replaced:
        drop(session, one_of(table.c.id, replaced))


def drop(session: Session, *conditions: ColumnElement[bool]) -> None:
    """Give up the checkpoints of which that is true, with their files."""
    table = core(Checkpoint)
    dropped = update(table).where(table.c.dropped_at.is_(None), *conditions).values(dropped_at=clock())
    gone = session.execute(dropped.returning(table.c.weights_id, table.c.state_id)).all()
    files.drop(session, [file_id for row in gone for file_id in row if file_id is not None])


def _age(row: Row[str, str, int, int]) -> tuple[int, int]:
    return row.step, row.attempt
