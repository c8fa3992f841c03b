"""Giving back the bytes of what was deleted or dropped, a small step at a time.

Invariant: a step deletes few rows and few bytes, found by indexes that hold nothing but what has to go, so that it
never holds SQLite's write lock for long; rows go only after what hangs on them: files after their checkpoints, contents
after their files and chunks, jobs after all of these.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, delete, exists, literal, literal_column, select, update
from sqlalchemy.orm import Session

from store import files, owners, predictions, retention
from store.columns import Table, core, one_of
from store.database import SQLITE_BUSY_SECONDS, Database, clock, kind_of
from store.files import contents
from store.jobs.conditions import IS_OVER
from store.results.segments import SEGMENT_POINTS
from store.tables import (
    Checkpoint,
    Content,
    ContentChunk,
    File,
    IdempotencyKey,
    Job,
    JobEvent,
    JobLog,
    MetricSegment,
)

STEP_ROWS = 500
STEP_WHOLES = 50
"""Jobs, which take tags, series and experiment along, checkpoints, files or contents."""
STEP_CHUNKS = 8
"""A chunk has a megabyte; eight are some ten milliseconds of SQLite's write lock."""
STEP_POINTS = STEP_CHUNKS * SEGMENT_POINTS
STEP_LOG_BYTES = 8 << 20
UNATTACHED_SECONDS = 24 * 3600.0
"""How long a file may be no job's: an upload that nobody goes on with."""
_PAGES_PER_STEP = 2500
_LOG_MILLISECONDS = 100

_DROPPED = select(Checkpoint.id).where(Checkpoint.dropped_at.is_not(None)).order_by(Checkpoint.dropped_at)
# Whoever drops a checkpoint drops its files as well: that may happen between the step for those and the one for these.
_OF_NONE = tuple(~exists().where(one == File.id) for one in (Checkpoint.weights_id, Checkpoint.state_id))
_DROPPED_FILES = (
    select(File.id, File.content_id).where(File.dropped_at.is_not(None), *_OF_NONE).order_by(File.dropped_at)
)
_UNUSED = select(Content.id, Content.owner).where(Content.uses == literal_column("0")).order_by(Content.id)
_DELETED = select(Job.id).where(Job.deleted_at.is_not(None)).order_by(Job.deleted_at)
# Of a job that has ended: nobody works on these, they will never be whole.
_ABANDONED = (
    Checkpoint.whole_at.is_(None),
    Checkpoint.dropped_at.is_(None),
    exists().where(Job.id == Checkpoint.experiment_id, IS_OVER),
)
_ABANDONED_FILES = (
    File.whole_at.is_(None),
    File.dropped_at.is_(None),
    exists().where(Job.id == File.job_id, IS_OVER),
)
_UNATTACHED = (
    File.job_id.is_(None),
    File.dropped_at.is_(None),
    File.created_at < clock() - UNATTACHED_SECONDS,
)
_WANTED = (
    _DROPPED,
    _DROPPED_FILES,
    _UNUSED,
    _DELETED,
    select(Checkpoint.id).where(*_ABANDONED),
    select(File.id).where(*_ABANDONED_FILES),
    select(File.id).where(*_UNATTACHED),
    predictions.ENDED,
)


def is_due(session: Session) -> bool:
    """Whether there is anything to purge; only reads."""
    return any(session.execute(wanted.limit(1)).first() is not None for wanted in _WANTED)


def purge(session: Session) -> int:
    """One step: how many rows of what was deleted or dropped are gone; 0 when nothing is left to do."""
    predictions.forget_ended(session)
    retention.drop(session, *_ABANDONED)
    for given_up in (_ABANDONED_FILES, _UNATTACHED):
        session.execute(update(core(File)).where(*given_up).values(dropped_at=clock()))
    deleted = _purge_checkpoints(session) or _purge_files(session) or _purge_contents(session) or _purge_jobs(session)
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
    return _delete_by_id(session, Checkpoint, dropped) if dropped else 0


def _purge_files(session: Session) -> int:
    """Rows only; of each content one use less."""
    dropped = session.execute(_DROPPED_FILES.limit(STEP_WHOLES)).all()
    if not dropped:
        return 0
    # Somebody who refers to one at this moment is not waited for: they may have another that is wanted here.
    used = select(Content.id).where(one_of(Content.id, {row.content_id for row in dropped})).order_by(Content.id)
    locked = set(session.scalars(used.with_for_update(skip_locked=True, key_share=True)))
    table = core(File)
    ids = [row.id for row in dropped if row.content_id in locked]
    gone = session.execute(delete(table).where(one_of(table.c.id, ids)).returning(table.c.content_id)).scalars()
    fewer = Counter(gone)
    for content_id in sorted(fewer):
        contents.use_less(session, content_id, fewer[content_id])
    return fewer.total()


def _purge_contents(session: Session) -> int:
    """Bytes first, then the rows, which count no longer towards their owners."""
    unused = session.execute(_UNUSED.limit(STEP_WHOLES)).all()
    if not unused:
        return 0
    ids = [row.id for row in unused]
    gone = _delete_some(session, ContentChunk, one_of(ContentChunk.content_id, ids), literal(1), STEP_CHUNKS)
    if gone:
        return gone
    # In the order of all who change contents: the owner first.
    for owner in sorted({row.owner for row in unused}):
        owners.take_turn(session, owner)
    table = core(Content)
    forgotten = delete(table).where(one_of(table.c.id, ids)).returning(table.c.owner, table.c.size)
    rows = session.execute(forgotten).all()
    freed: Counter[str] = Counter()
    for owner, size in rows:
        freed[owner] += size
    for owner in sorted(freed):
        owners.add_bytes(session, owner, -freed[owner])
    return len(rows)


def _purge_jobs(session: Session) -> int:
    deleted = session.scalars(_DELETED.limit(STEP_WHOLES)).all()
    if not deleted:
        return 0
    gone = files.drop_of_jobs(session, deleted)
    if gone:
        return gone
    points_left = one_of(MetricSegment.experiment_id, deleted)
    gone = _delete_some(session, MetricSegment, points_left, MetricSegment.count.expression, STEP_POINTS)
    gone = gone or _delete_some(session, JobLog, one_of(JobLog.job_id, deleted), JobLog.size.expression, STEP_LOG_BYTES)
    gone = gone or _delete_some(session, JobEvent, one_of(JobEvent.job_id, deleted), literal(1), STEP_ROWS)
    if gone:
        return gone
    # A request that could still be repeated goes on standing for what it made (it would run again).
    remembered = core(IdempotencyKey)
    session.execute(update(remembered).where(one_of(remembered.c.experiment_id, deleted)).values(experiment_id=None))
    # A file that is being purged elsewhere is still there.
    left = set(session.scalars(select(File.job_id).where(one_of(File.job_id, deleted))))
    return _delete_by_id(session, Job, [job_id for job_id in deleted if job_id not in left])


def _delete_by_id(session: Session, table: type[Table], ids: Collection[str]) -> int:
    mine = core(table)
    gone = delete(mine).where(one_of(mine.c.id, ids))
    return len(session.execute(gone.returning(literal_column("1"))).all())


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
