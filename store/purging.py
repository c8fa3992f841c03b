"""Giving back the bytes of what was deleted or dropped, a small step at a time.

Invariant: a step deletes few rows and few bytes, found by indexes that hold nothing but what has to go, so that it
never holds SQLite's write lock for long; rows go only after the bytes that hang on them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, exists, func, literal, literal_column, select, update
from sqlalchemy.orm import Session

from store import owners
from store.columns import Table, core, one_of
from store.database import SQLITE_BUSY_SECONDS, Database, clock, kind_of
from store.jobs.conditions import IS_OVER
from store.results.segments import SEGMENT_POINTS
from store.tables import Checkpoint, CheckpointChunk, IdempotencyKey, Job, JobEvent, JobLog, MetricSegment

STEP_ROWS = 500
STEP_WHOLES = 50
"""Jobs, which take tags, series and experiment along, or checkpoints."""
STEP_CHUNKS = 8
"""A chunk has a megabyte; eight are some ten milliseconds of SQLite's write lock."""
STEP_POINTS = STEP_CHUNKS * SEGMENT_POINTS
STEP_LOG_BYTES = 8 << 20
_PAGES_PER_STEP = 2500
_LOG_MILLISECONDS = 100

_DROPPED = select(Checkpoint.id).where(Checkpoint.dropped_at.is_not(None)).order_by(Checkpoint.dropped_at)
_DELETED = select(Job.id).where(Job.deleted_at.is_not(None)).order_by(Job.deleted_at)
# Of a job that has ended: nobody works on these, they will never be whole.
_ABANDONED = (
    Checkpoint.whole_at.is_(None),
    Checkpoint.dropped_at.is_(None),
    exists().where(Job.id == Checkpoint.experiment_id, IS_OVER),
)
_WANTED = (_DROPPED, _DELETED, select(Checkpoint.id).where(*_ABANDONED))


def is_due(session: Session) -> bool:
    """Whether there is anything to purge; only reads."""
    return any(session.execute(wanted.limit(1)).first() is not None for wanted in _WANTED)


def purge(session: Session) -> int:
    """One step: how many rows of deleted jobs and dropped checkpoints are gone; 0 when nothing is left to do."""
    session.execute(update(core(Checkpoint)).where(*_ABANDONED).values(dropped_at=clock()))
    deleted = _purge_checkpoints(session) or _purge_jobs(session)
    if kind_of(session) == "sqlite":
        _shrink_sqlite(session, _PAGES_PER_STEP)
    return deleted


def truncate_log(database: Database) -> None:
    """Give back the disk that SQLite's log of writes has grown to; after the last step, and in no transaction.

    Not while somebody reads for long: it would wait, and writers with it. Then the next time will do.
    """
    if database.engine.dialect.name != "sqlite":
        return
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {_LOG_MILLISECONDS}")
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        driver.execute(f"PRAGMA busy_timeout = {1000 * SQLITE_BUSY_SECONDS}")


def _purge_checkpoints(session: Session) -> int:
    dropped = session.scalars(_DROPPED.limit(STEP_WHOLES)).all()
    if not dropped:
        return 0
    bytes_left = one_of(CheckpointChunk.checkpoint_id, dropped)
    return _delete_some(session, CheckpointChunk, bytes_left, literal(1), STEP_CHUNKS) or _forget(session, dropped)


def _forget(session: Session, checkpoint_ids: Sequence[str]) -> int:
    """Delete the rows of checkpoints without bytes, and count them no longer towards their owners."""
    table = core(Checkpoint)
    size = table.c.size + func.coalesce(table.c.state_size, 0)
    statement = delete(table).where(one_of(table.c.id, checkpoint_ids)).returning(table.c.experiment_id, size)
    rows = session.execute(statement).all()
    owner_of = dict(
        session.execute(select(Job.id, Job.owner).where(one_of(Job.id, {job_id for job_id, _ in rows}))).all()
    )
    freed: dict[str, int] = {}
    for job_id, released in rows:
        freed[owner_of[job_id]] = freed.get(owner_of[job_id], 0) + released
    for owner in sorted(freed):
        owners.add_bytes(session, owner, -freed[owner])
    return len(rows)


def _purge_jobs(session: Session) -> int:
    deleted = session.scalars(_DELETED.limit(STEP_WHOLES)).all()
    if not deleted:
        return 0
    points_left = one_of(MetricSegment.experiment_id, deleted)
    gone = _delete_some(session, MetricSegment, points_left, MetricSegment.count.expression, STEP_POINTS)
    gone = gone or _delete_some(session, JobLog, one_of(JobLog.job_id, deleted), JobLog.size.expression, STEP_LOG_BYTES)
    gone = gone or _delete_some(session, JobEvent, one_of(JobEvent.job_id, deleted), literal(1), STEP_ROWS)
    if gone:
        return gone
    # A request that could still be repeated goes on standing for what it made (it would run again).
    remembered = core(IdempotencyKey)
    session.execute(update(remembered).where(one_of(remembered.c.experiment_id, deleted)).values(experiment_id=None))
    return len(session.execute(delete(core(Job)).where(one_of(Job.id, deleted)).returning(literal_column("1"))).all())


def _delete_some(
    session: Session, table: type[Table], condition: ColumnElement[bool], weight: ColumnElement[int], most: int
) -> int:
    """Delete some rows that together weigh no more than `most`, or one that does."""
    mine = core(table)
    key = list(mine.primary_key)
    chosen: Select[Any] = select(*key, weight).where(condition).limit(STEP_ROWS)
    keys: list[dict[str, Any]] = []
    for *values, weighs in session.execute(chosen):
        most -= weighs
        if keys and most < 0:
            break
        keys.append({f"of_{column.name}": value for column, value in zip(key, values, strict=True)})
    if keys:
        session.execute(delete(mine).where(*(column == bindparam(f"of_{column.name}") for column in key)), keys)
    return len(keys)


def _shrink_sqlite(session: Session, pages: int) -> None:
    connection = session.connection()
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    driver: Any = connection.connection.driver_connection
    # One page a call: it is a statement to be stepped once a page, and the driver steps once.
    for _ in range(min(pages, free)):
        driver.execute("PRAGMA incremental_vacuum(1)")
