"""Reading files: their rows, and their bytes a chunk at a time, so that none is ever whole in memory.

Invariant: what is read to its end is what was announced, or an error.
"""

import hashlib
from collections.abc import Callable, Iterator

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from store.columns import core
from store.database import Database
from store.errors import FileDamaged, FileNotFound
from store.tables import ContentChunk, File

CHUNK_BYTES = 1 << 20

_FILES, _CHUNKS = core(File), core(ContentChunk)
_SHOWN = (File.whole_at.is_not(None), File.dropped_at.is_(None))
_CHUNK = (
    select(_CHUNKS.c.data)
    .join(_FILES, _FILES.c.content_id == _CHUNKS.c.content_id)
    .where(_FILES.c.id == bindparam("of_file"), _CHUNKS.c.seq == bindparam("of_seq"))
)


def get(session: Session, file_id: str, *, owner: str | None = None) -> File:
    """A file that can be read, of one owner or (None) of any. Raises `FileNotFound`."""
    statement = select(File).where(File.id == file_id, *_SHOWN)
    if owner is not None:
        statement = statement.where(File.owner == owner)
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise FileNotFound(file_id)
    return found


def of_job(session: Session, job_id: str) -> list[File]:
    """The files of a job that can be read, by kind and name."""
    statement = select(File).where(File.job_id == job_id, *_SHOWN)
    return list(session.scalars(statement.order_by(File.kind, File.name, File.step, File.id)))


def chunk(session: Session, file_id: str, seq: int) -> bytes:
    """One chunk of a file. Raises `FileNotFound`, or `FileDamaged` where it is missing from one that is kept."""
    data = session.execute(_CHUNK, {"of_file": file_id, "of_seq": seq}).scalar_one_or_none()
    if data is not None:
        return bytes(data)
    dropped = select(_FILES.c.dropped_at).where(_FILES.c.id == file_id)
    if session.execute(dropped).all() == [(None,)]:
        raise FileDamaged(file_id, f"chunk {seq} is missing")
    raise FileNotFound(file_id)


def digest(database: Database, file_id: str, meanwhile: Callable[[], object] = lambda: None) -> str:
    """The SHA-256 of what is stored of a file, whole or not, in hex; `meanwhile` is called after each chunk."""
    found = hashlib.sha256()
    mine = select(_CHUNKS.c.seq).join(_FILES, _FILES.c.content_id == _CHUNKS.c.content_id)
    with database.read() as session:
        numbers = session.scalars(mine.where(_FILES.c.id == file_id).order_by(_CHUNKS.c.seq)).all()
    for seq in numbers:
        with database.read() as session:
            data = chunk(session, file_id, seq)
        found.update(data)
        meanwhile()
    return found.hexdigest()


def read(database: Database, file_id: str) -> Iterator[bytes]:
    """The chunks of a file, each read in a short session of its own.

    Raises `FileNotFound` at the call, or on the way when the file is purged while it is read; and `FileDamaged` where
    a chunk is missing, or after the last one when they are not what was announced.
    """
    with database.read() as session:
        file = get(session, file_id)
    return _chunks(database, file_id, file.size, file.sha256)


def _chunks(database: Database, file_id: str, size: int, sha256: str) -> Iterator[bytes]:
    found = hashlib.sha256()
    for seq in range(-(-size // CHUNK_BYTES)):
        with database.read() as session:
            data = chunk(session, file_id, seq)
        found.update(data)
        yield data
    if found.hexdigest() != sha256:
        raise FileDamaged(file_id, "what is stored is not what was announced")
