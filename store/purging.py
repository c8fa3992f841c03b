"""Giving back the bytes of what was deleted or dropped, a batch at a time.

Invariant: a call deletes a bounded number of rows, so that it never holds SQLite's write lock for long; rows go only
after the bytes that hang on them.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.columns import Table
from store.models import Checkpoint, CheckpointChunk, Experiment, IdempotencyKey, MetricSegment

# A chunk of 1 MiB is 256 pages of 4 KiB; giving back a few more than were freed catches up with what was left.
_PAGES_PER_ROW = 300


def purge(session: Session, limit: int = 64) -> int:
    """Delete up to `limit` rows of deleted experiments and dropped checkpoints; 0 when nothing is left to do.

    Deleting an experiment drops its checkpoints, so one index finds all bytes there are to purge.
    """
    gone = select(Experiment.id).where(Experiment.deleted_at.is_not(None))
    given_up = Checkpoint.dropped_at.is_not(None)
    chunk, segment = CheckpointChunk, MetricSegment
    chunk_key = (chunk.checkpoint_id, chunk.file, chunk.seq)
    segment_key = (segment.experiment_id, segment.key, segment.first_step)
    deleted = 0
    for table, key, condition in (
        (chunk, chunk_key, chunk.checkpoint_id.in_(select(Checkpoint.id).where(given_up))),
        (segment, segment_key, segment.experiment_id.in_(gone)),
        (Checkpoint, (Checkpoint.id,), given_up & ~exists().where(chunk.checkpoint_id == Checkpoint.id)),
        (Experiment, (Experiment.id,), _bare_experiment()),
    ):
        if deleted < limit:
            deleted += _delete_some(session, table, key, condition, limit - deleted)
    if deleted and session.get_bind().dialect.name == "sqlite":
        _shrink_sqlite(session, deleted * _PAGES_PER_ROW)
    return deleted


def _bare_experiment() -> ColumnElement[bool]:
    """A deleted experiment without bytes, and without a request that could still be repeated (it would run again)."""
    return (
        Experiment.deleted_at.is_not(None)
        & ~exists().where(Checkpoint.experiment_id == Experiment.id)
        & ~exists().where(MetricSegment.experiment_id == Experiment.id)
        & ~exists().where(IdempotencyKey.experiment_id == Experiment.id)
    )


def _delete_some(
    session: Session,
    table: type[Table],
    key: Sequence[InstrumentedAttribute[Any]],
    condition: ColumnElement[bool],
    limit: int,
) -> int:
    chosen: Select[Any] = select(*key).where(condition).limit(limit)
    statement = delete(table).where(tuple_(*key).in_(chosen)).returning(key[0])
    return len(session.execute(statement, execution_options={"synchronize_session": False}).all())


def _shrink_sqlite(session: Session, pages: int) -> None:
    connection = session.connection()
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    # One page a call: it is a statement to be stepped once a page, and the driver steps once.
    for _ in range(min(pages, free)):
        connection.exec_driver_sql("PRAGMA incremental_vacuum(1)")
