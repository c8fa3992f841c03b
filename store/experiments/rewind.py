"""Going back to the newest checkpoint, inside the transaction that claims an experiment.

Invariant: after it, nothing stored lies beyond the step that training resumes from, so the attempt that follows makes
every later point exactly once: no gap, no duplicate.
"""

import math
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from bncore.recording import FILE_KIND
from store import files, retention
from store.columns import core
from store.results.appending import TEST_ACCURACY
from store.results.segments import cut_after, merged
from store.tables import Checkpoint, Experiment, File, MetricSegment, MetricSeries

_FILES = core(File)
_QUIETLY = {"synchronize_session": False}


def rewind(session: Session, experiment_id: str) -> Checkpoint | None:
    """Forget what lies beyond the newest restorable checkpoint, and set the experiment's step to it.

    Without such a checkpoint training begins again, and everything goes.
    """
    checkpoint = _newest_restorable(session, experiment_id)
    step = None if checkpoint is None else checkpoint.step
    _drop_checkpoints_beyond(session, experiment_id, step)
    _drop_metrics_beyond(session, experiment_id, step)
    _drop_recordings_beyond(session, experiment_id, step)
    table = core(Experiment)
    at = {"step": step or 0, "begun_at": None, "begun_step": None, "accuracy": _accuracy(session, experiment_id)}
    session.execute(update(table).where(table.c.id == experiment_id).values(at))
    return checkpoint


def _accuracy(session: Session, experiment_id: str) -> float | None:
    """What is left of it."""
    mine = MetricSeries.experiment_id == experiment_id, MetricSeries.key == TEST_ACCURACY
    last = session.execute(select(MetricSeries.last).where(*mine)).scalar_one_or_none()
    return last if last is not None and math.isfinite(last) else None


def _newest_restorable(session: Session, experiment_id: str) -> Checkpoint | None:
    statement = (
        select(Checkpoint)
        .where(
            Checkpoint.experiment_id == experiment_id,
            Checkpoint.kind == "last",
            Checkpoint.whole_at.is_not(None),
            Checkpoint.dropped_at.is_(None),
        )
        .order_by(Checkpoint.step.desc(), Checkpoint.attempt.desc())
        .limit(1)
    )
    return session.scalars(statement).one_or_none()


def _drop_checkpoints_beyond(session: Session, experiment_id: str, step: int | None) -> None:
    beyond = Checkpoint.step > step if step is not None else Checkpoint.step.is_not(None)
    retention.drop(session, Checkpoint.experiment_id == experiment_id, beyond | Checkpoint.whole_at.is_(None))


def _drop_recordings_beyond(session: Session, experiment_id: str, step: int | None) -> None:
    """Those of later steps, and what is not whole of others: it comes again."""
    mine = [_FILES.c.job_id == experiment_id, _FILES.c.kind == FILE_KIND, _FILES.c.dropped_at.is_(None)]
    if step is not None:
        mine.append((_FILES.c.step > step) | _FILES.c.whole_at.is_(None))
    files.drop(session, session.scalars(select(_FILES.c.id).where(*mine)).all())


def _drop_metrics_beyond(session: Session, experiment_id: str, step: int | None) -> None:
    segments = delete(MetricSegment).where(MetricSegment.experiment_id == experiment_id)
    series = delete(MetricSeries).where(MetricSeries.experiment_id == experiment_id)
    if step is None:
        session.execute(segments, execution_options=_QUIETLY)
        session.execute(series, execution_options=_QUIETLY)
        return
    touched = select(MetricSeries.key).where(MetricSeries.experiment_id == experiment_id, MetricSeries.last_step > step)
    keys = session.scalars(touched).all()
    session.execute(segments.where(MetricSegment.first_step > step), execution_options=_QUIETLY)
    _cut_spanning(session, experiment_id, step)
    session.execute(series.where(MetricSeries.key.in_(keys)), execution_options=_QUIETLY)
    _summarize(session, experiment_id, keys)


def _cut_spanning(session: Session, experiment_id: str, step: int) -> None:
    """Segments end at checkpoints, so there should be none; one that spans is cut rather than lost or repeated."""
    statement = select(MetricSegment).where(
        MetricSegment.experiment_id == experiment_id, MetricSegment.last_step > step
    )
    for segment in session.scalars(statement):
        cut_after(segment, step)
    session.flush()


def _summarize(session: Session, experiment_id: str, keys: Sequence[str]) -> None:
    for key in keys:
        # Columns only: the packed points stay where they are.
        statement = (
            select(
                MetricSegment.first_step,
                MetricSegment.last_step,
                MetricSegment.count,
                MetricSegment.first,
                MetricSegment.last,
                MetricSegment.minimum,
                MetricSegment.maximum,
                MetricSegment.nonfinite,
            )
            .where(MetricSegment.experiment_id == experiment_id, MetricSegment.key == key)
            .order_by(MetricSegment.first_step)
        )
        summary = merged(dict(found) for found in session.execute(statement).mappings())
        if summary is not None:
            session.add(MetricSeries(experiment_id=experiment_id, key=key, **summary))
    session.flush()
