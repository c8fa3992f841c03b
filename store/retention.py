"""Which checkpoints of an experiment stay.

Invariant: the newest whole `last` stays, because training resumes from it; so does the newest `best` at or before it,
because a run that is set back to that `last` still needs its best; and every `best` after it.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.database import clock
from store.tables import Checkpoint


def retain(session: Session, experiment_id: str, *, keep_periodic: bool) -> None:
    """Give up checkpoints that newer whole ones replace; with `keep_periodic` an old `last` becomes `periodic`."""
    whole = select(Checkpoint).where(
        Checkpoint.experiment_id == experiment_id, Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None)
    )
    rows = session.scalars(whole, execution_options={"populate_existing": True}).all()
    lasts = [row for row in rows if row.kind == "last"]
    if not lasts:
        return
    newest_last = max(lasts, key=_age)
    old_lasts = [row.id for row in lasts if _age(row) < _age(newest_last)]
    reached = [row for row in rows if row.kind == "best" and row.step <= newest_last.step]
    # By the attempt too: one that began again after its last checkpoint makes the best of that step again.
    newest_best = max(map(_age, reached), default=(0, 0))
    old_bests = [row.id for row in reached if _age(row) < newest_best]
    if keep_periodic:
        _change(session, old_lasts, kind="periodic")
        _change(session, old_bests, dropped_at=clock())
    else:
        _change(session, [*old_lasts, *old_bests], dropped_at=clock())


def _age(row: Checkpoint) -> tuple[int, int]:
    return row.step, row.attempt


def _change(session: Session, ids: list[str], **values: object) -> None:
    if ids:
        statement = update(Checkpoint).where(Checkpoint.id.in_(ids)).values(**values)
        session.execute(statement, execution_options={"synchronize_session": False})
