"""Writing a file: chunks, each a transaction of its own, and the comparison after which it is shown.

Invariant: a chunk has its place within the announced size, so nobody stores more than counts towards the owner; a whole
file is not written to. Under a lease everything begins with the guarded renewal.
"""

from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from store import owners
from store.columns import core
from store.database import clock
from store.errors import FileDamaged, FileIncomplete, FileNotFound
from store.files import contents
from store.files.dropping import condemn, drop
from store.files.reading import CHUNK_BYTES
from store.jobs.leases import Go, Lease, Stop, renew
from store.tables import ContentChunk, File

_FILES, _CHUNKS = core(File), core(ContentChunk)
_NEW_CHUNK = insert(_CHUNKS)
_NO_CHUNK = delete(_CHUNKS).where(*(column == bindparam(f"of_{column.name}") for column in _CHUNKS.primary_key))


def write_chunk(session: Session, lease: Lease, file_id: str, seq: int, data: bytes) -> Go | Stop:
    """Store one chunk (numbered from 0, all but the last `CHUNK_BYTES` long); a repeat replaces it.

    Raises `StaleLease`, `FileNotFound`, and ValueError for a chunk that does not lie within the announced size.
    """
    answer = renew(session, lease)
    _write(session, _kept(session, file_id, _FILES.c.job_id == lease.job_id), seq, data)
    return answer


def write_chunk_of(session: Session, owner: str, file_id: str, seq: int, data: bytes) -> None:
    """The same for a file that an owner brings."""
    _write(session, _brought(session, owner, file_id), seq, data)


def complete(session: Session, lease: Lease, file_id: str, digest: str) -> Go | Stop:
    """Show the file, and give up what the job had under its name before. `digest` is that of what is stored.

    Raises `StaleLease`, `FileNotFound`, `FileIncomplete` if bytes are missing, `FileDamaged` if they are not the
    announced.
    """
    answer = renew(session, lease)
    file = _kept(session, file_id, _FILES.c.job_id == lease.job_id)
    if file.whole_at is None:
        become_whole(session, file_id, digest)
    named = [_FILES.c[name].is_not_distinct_from(file._mapping[name]) for name in ("kind", "name", "step")]
    older = select(_FILES.c.id).where(_FILES.c.job_id == lease.job_id, *named, _FILES.c.id != file_id)
    drop(session, session.scalars(older.where(_FILES.c.dropped_at.is_(None))).all())
    return answer


def complete_of(session: Session, owner: str, file_id: str, digest: str) -> None:
    """The same for a file that an owner brings; it replaces no other."""
    if _brought(session, owner, file_id).whole_at is None:
        become_whole(session, file_id, digest)


def become_whole(session: Session, file_id: str, digest: str) -> None:
    """Show a file that is kept and was not whole, for whoever may write it.

    Raises `FileNotFound`, `FileIncomplete`, `FileDamaged`.
    """
    file = _kept(session, file_id)
    _verify(session, file)
    if digest != file.sha256:
        raise FileDamaged(file_id, f"its SHA-256 is {digest}, not {file.sha256}")
    owners.take_turn(session, file.owner)
    # Somebody may have been faster with the same bytes.
    other = contents.use_whole(session, file.owner, file.sha256, file.size)
    if other is None:
        contents.show(session, file.content_id)
    else:
        contents.use_less(session, file.content_id)
    shown = update(_FILES).where(_FILES.c.id == file_id)
    session.execute(shown.values(whole_at=clock(), content_id=other or file.content_id))


def start_over(session: Session, lease: Lease, file_id: str, owner_bytes: int | None = None) -> None:
    """Have a file that refers to damaged bytes refer to new ones, which are to be written.

    Raises `StaleLease`, `FileNotFound`, `QuotaExceeded`.
    """
    renew(session, lease)
    file = _kept(session, file_id, _FILES.c.job_id == lease.job_id)
    owners.take_turn(session, file.owner)
    condemn(session, [file_id])
    contents.use_less(session, file.content_id)
    fresh = contents.make(session, file.owner, file.sha256, file.size, owner_bytes=owner_bytes)
    session.execute(update(_FILES).where(_FILES.c.id == file_id).values(whole_at=None, content_id=fresh))


def _brought(session: Session, owner: str, file_id: str) -> Row[Any]:
    return _kept(session, file_id, _FILES.c.owner == owner, _FILES.c.job_id.is_(None))


def _kept(session: Session, file_id: str, *conditions: Any) -> Row[Any]:
    """The file, which stays as it is until the transaction ends."""
    statement = select(_FILES).where(_FILES.c.id == file_id, _FILES.c.dropped_at.is_(None), *conditions)
    found = session.execute(statement.with_for_update(key_share=True)).one_or_none()
    if found is None:
        raise FileNotFound(file_id)
    return found


def _write(session: Session, file: Row[Any], seq: int, data: bytes) -> None:
    if file.whole_at is not None:
        return
    if len(data) > CHUNK_BYTES or seq < 0 or seq * CHUNK_BYTES + len(data) > file.size:
        raise ValueError(f"chunk {seq} of {len(data)} bytes has no place in {file.size} bytes, {CHUNK_BYTES} a chunk")
    place = {"content_id": file.content_id, "seq": seq}
    session.execute(_NO_CHUNK, {f"of_{name}": value for name, value in place.items()})
    session.execute(_NEW_CHUNK, {**place, "data": data})


def _verify(session: Session, file: Row[Any]) -> None:
    mine = _CHUNKS.c.content_id == file.content_id
    stored, chunks = session.execute(
        select(func.coalesce(func.sum(func.length(_CHUNKS.c.data)), 0), func.count()).where(mine)
    ).one()
    # Chunks lie within the size, so that as many as it needs are all of them.
    if int(stored) != file.size or chunks != -(-file.size // CHUNK_BYTES):
        raise FileIncomplete(file.id, file.size, int(stored))
