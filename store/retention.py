"""Which checkpoints of an experiment stay.

Invariant: the newest whole `last` stays, because training resumes from it; so does the newest `best` at or before it,
because a run that is set back to that `last` still needs its best; and every `best` after it.
"""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.database import clock
from store.models import Checkpoint


def retain(session: Session, experiment_id: str, *, keep_periodic: bool) -> None:
    """Give up checkpoints that newer whole ones replace; with `keep_periodic` an old `last` becomes `periodic`."""
    whole = select(Checkpoint).where(
        Checkpoint.experiment_id == experiment_id, Checkpoint.whole_at.is_not(None), Checkpoint.dropped_at.is_(None)
    )
    rows = session.scalars(whole, execution_options={"populate_existing": True}).all()
    lasts = [row for row in rows if row.kind == "last"]
    if not lasts:
        return
    resume_step = max(row.step for row in lasts)
    old_lasts = [row.id for row in lasts if row.step < resume_step]
    reached = [row for row in rows if row.kind == "best" and row.step <= resume_step]
    best_step = max((row.step for row in reached), default=0)
    old_bests = [row.id for row in reached if row.step < best_step]
    if keep_periodic:
        _change(session, old_lasts, kind="periodic")
        _change(session, old_bests, dropped_at=clock())
    else:
        _change(session, [*old_lasts, *old_bests], dropped_at=clock())


def _change(session: Session, ids: list[str], **values: object) -> None:
    if ids:
        statement = update(Checkpoint).where(Checkpoint.id.in_(ids)).values(**values)
        session.execute(statement, execution_options={"synchronize_session": False})
