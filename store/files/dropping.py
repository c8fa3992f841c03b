"""Giving files up. Their rows and bytes go with the next purge (`store.purging`).

Invariant: what is dropped is not shown any more, and never comes back.
"""

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.columns import core, one_of
from store.database import clock
from store.tables import Content, File

_FILES = core(File)


def drop(session: Session, file_ids: Collection[str]) -> None:
    """Give up files; those that are dropped already stay so."""
    if file_ids:
        mine = (one_of(_FILES.c.id, file_ids), _FILES.c.dropped_at.is_(None))
        session.execute(update(_FILES).where(*mine).values(dropped_at=clock()))


def drop_of_jobs(session: Session, job_ids: Collection[str]) -> int:
    """Give up all files of jobs; how many there were."""
    mine = (one_of(_FILES.c.job_id, job_ids), _FILES.c.dropped_at.is_(None))
    dropped = update(_FILES).where(*mine).values(dropped_at=clock()).returning(_FILES.c.id)
    return len(session.execute(dropped).all())


def condemn(session: Session, file_ids: Collection[str]) -> None:
    """Have no other file refer to the bytes of these any more: they are not what was announced."""
    if not file_ids:
        return
    table = core(Content)
    theirs = select(_FILES.c.content_id).where(one_of(_FILES.c.id, file_ids))
    session.execute(update(table).where(table.c.id.in_(theirs)).values(whole_at=None))
