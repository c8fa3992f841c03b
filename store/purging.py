"""Giving back the bytes of what was deleted or dropped, a small step at a time.

Invariant: a call deletes few rows and few bytes, so that it never holds SQLite's write lock for long; rows go only
after the bytes that hang on them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, literal_column, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from store import owners
from store.columns import Table, core
from store.database import clock
from store.jobs.states import TERMINAL
from store.tables import Checkpoint, CheckpointChunk, IdempotencyKey, Job, JobEvent, JobLog, MetricSegment

STEP_ROWS = 500
STEP_CHUNKS = 8
"""A chunk has a megabyte; eight are some ten milliseconds of SQLite's write lock."""
STEP_LOG_PIECES = 100
"""A piece has 64 KiB at most."""
_PAGES_PER_STEP = 2500

_DROPPED = Checkpoint.dropped_at.is_not(None)
_DELETED = Job.deleted_at.is_not(None)


def is_due(session: Session) -> bool:
    """Whether there is anything to purge; only reads."""
    wanted = (
        select(Checkpoint.id).where(_DROPPED),
        select(Job.id).where(_bare_job() | _with_rows()),
        select(Checkpoint.id).where(*_abandoned()),
    )
    return any(session.execute(one.limit(1)).first() is not None for one in wanted)


def purge(session: Session) -> int:
    """One step: how many rows of deleted jobs and dropped checkpoints are gone; 0 when nothing is left to do."""
    _drop_abandoned(session)
    chunk, segment = CheckpointChunk, MetricSegment
    chunk_key = (chunk.checkpoint_id, chunk.file, chunk.seq)
    segment_key = (segment.experiment_id, segment.key, segment.first_step)
    gone = select(Job.id).where(_DELETED)
    dropped = select(Checkpoint.id).where(_DROPPED)
    deleted = 0
    for table, key, condition, limit in (
        (chunk, chunk_key, chunk.checkpoint_id.in_(dropped), STEP_CHUNKS),
        (segment, segment_key, segment.experiment_id.in_(gone), STEP_CHUNKS),
        (JobLog, (JobLog.job_id, JobLog.attempt, JobLog.start), JobLog.job_id.in_(gone), STEP_LOG_PIECES),
        (JobEvent, (JobEvent.sequence,), JobEvent.job_id.in_(gone), STEP_ROWS),
    ):
        if not deleted:
            deleted = _delete_some(session, table, key, condition, limit)
    deleted = deleted or _forget_checkpoints(session)
    deleted = deleted or _delete_some(session, Job, (Job.id,), _bare_job(), STEP_ROWS)
    if session.get_bind().dialect.name == "sqlite":
        _shrink_sqlite(session, _PAGES_PER_STEP)
    return deleted


def _with_rows() -> ColumnElement[bool]:
    rows = exists().where(MetricSegment.experiment_id == Job.id) | exists().where(JobEvent.job_id == Job.id)
    return _DELETED & (rows | exists().where(JobLog.job_id == Job.id))


def _bare_job() -> ColumnElement[bool]:
    """A deleted job without bytes, and without a request that could still be repeated (it would run again)."""
    return (
        _DELETED
        & ~exists().where(Checkpoint.experiment_id == Job.id)
        & ~exists().where(MetricSegment.experiment_id == Job.id)
        & ~exists().where(JobEvent.job_id == Job.id)
        & ~exists().where(JobLog.job_id == Job.id)
        & ~exists().where(IdempotencyKey.experiment_id == Job.id)
    )


def _abandoned() -> tuple[ColumnElement[bool], ...]:
    """Checkpoints that will never be whole: nobody works on their job any more."""
    ended = exists().where(Job.id == Checkpoint.experiment_id, Job.state.in_(TERMINAL))
    return (Checkpoint.whole_at.is_(None), Checkpoint.dropped_at.is_(None), ended)


def _drop_abandoned(session: Session) -> None:
    session.execute(update(core(Checkpoint)).where(*_abandoned()).values(dropped_at=clock()))


def _forget_checkpoints(session: Session) -> int:
    bare = select(Checkpoint.id).where(_DROPPED, ~exists().where(CheckpointChunk.checkpoint_id == Checkpoint.id))
    table = core(Checkpoint)
    size = table.c.size + func.coalesce(table.c.state_size, 0)
    statement = delete(table).where(table.c.id.in_(bare.limit(STEP_ROWS))).returning(table.c.experiment_id, size)
    freed: dict[str, int] = {}
    rows = session.execute(statement).all()
    for job_id, released in rows:
        freed[job_id] = freed.get(job_id, 0) + released
    for owner, job_id in session.execute(select(Job.owner, Job.id).where(Job.id.in_(freed))).all():
        owners.add_bytes(session, owner, -freed[job_id])
    return len(rows)


def _delete_some(
    session: Session,
    table: type[Table],
    key: Sequence[InstrumentedAttribute[Any]],
    condition: ColumnElement[bool],
    limit: int,
) -> int:
    chosen: Select[Any] = select(*key).where(condition).limit(limit)
    statement: Any = delete(core(table)).where(tuple_(*key).in_(chosen)).returning(literal_column("1"))
    return len(session.execute(statement).all())


def _shrink_sqlite(session: Session, pages: int) -> None:
    connection = session.connection()
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    # One page a call: it is a statement to be stepped once a page, and the driver steps once.
    for _ in range(min(pages, free)):
        connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
