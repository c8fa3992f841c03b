"""Small files of a job, announced, written, compared and shown by a few statements, however many they are.

Invariant: what is shown is what was announced, byte by byte, and of one owner the same bytes are stored and counted
once, as if each had gone its way through `store.files.announcing` and `store.files.writing`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from bncore.spec.limits import NAME_CHARS
from store import owners
from store.columns import Words, core, one_of
from store.database import clock
from store.errors import FileDamaged
from store.files import contents
from store.files.announcing import Announced
from store.files.contents import Key
from store.files.reading import CHUNK_BYTES
from store.ids import new_id
from store.tables import ContentChunk, File
from store.text import storable

_CHUNKS = core(ContentChunk)
_NEW_FILES = insert(core(File)).values(created_at=clock(), whole_at=clock())
_NEW_CHUNKS = insert(_CHUNKS).values(seq=0)
_FIRST_CHUNKS = select(_CHUNKS.c.content_id, _CHUNKS.c.data).where(
    one_of(_CHUNKS.c.content_id, bindparam("of_contents", type_=Words())), _CHUNKS.c.seq == 0
)


@dataclass(frozen=True)
class Small:
    """A file of one chunk, and its bytes, whose SHA-256 the caller has compared with the announced one."""

    announced: Announced
    data: bytes
    id: str = field(default_factory=lambda: new_id("fil"))

    @property
    def key(self) -> Key:
        return self.announced.sha256, self.announced.size


def store_new(
    session: Session, owner: str, job_id: str, files: Sequence[Small], owner_bytes: int | None = None
) -> None:
    """Store and show files, for whoever holds the job and knows that it has none of them yet.

    Raises ValueError for one that is no single chunk, `QuotaExceeded`, and `FileDamaged` where the bytes that are
    there are others; then nothing of it is to be committed.
    """
    for file in files:
        if not 0 < len(file.data) <= CHUNK_BYTES or len(file.data) != file.announced.size:
            raise ValueError(f"{file.announced.name} has {len(file.data)} bytes, which is not one announced chunk")
    if not files:
        return
    owners.take_turn(session, owner)
    content_ids = _contents(session, owner, files, owner_bytes)
    rows = [
        {
            **vars(file.announced),
            "id": file.id,
            "owner": owner,
            "job_id": job_id,
            "name": storable(file.announced.name, NAME_CHARS),
            "content_id": content_ids[file.key],
        }
        for file in files
    ]
    session.execute(_NEW_FILES, rows)
    _compare(session, files, content_ids)


def _contents(session: Session, owner: str, files: Sequence[Small], owner_bytes: int | None) -> dict[Key, str]:
    """The content of each file, which refers to it: one that is there, or a new one with its bytes."""
    uses = Counter(file.key for file in files)
    there = contents.shared(session, owner, [sha256 for sha256, _ in uses])
    used = {key: contents.use_whole(session, owner, *key, times=uses[key]) for key in there & uses.keys()}
    # What was found damaged in between is shared no more.
    ids = {key: content_id for key, content_id in used.items() if content_id is not None}
    new = {key: times for key, times in uses.items() if key not in ids}
    made = contents.make_whole(session, owner, new, owner_bytes=owner_bytes)
    data = {file.key: file.data for file in files}
    if made:
        session.execute(_NEW_CHUNKS, [{"content_id": made[key], "data": data[key]} for key in made])
    return ids | made


def _compare(session: Session, files: Sequence[Small], content_ids: dict[Key, str]) -> None:
    found = session.execute(_FIRST_CHUNKS, {"of_contents": [*content_ids.values()]})
    stored = {row.content_id: bytes(row.data) for row in found}
    for file in files:
        if stored.get(content_ids[file.key]) != file.data:
            raise FileDamaged(file.id, "what is stored is not what was sent")
