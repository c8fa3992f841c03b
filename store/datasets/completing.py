"""The end of an upload: it becomes a data set, whose import is queued, or is one that is there already.

Invariant: one owner's same bytes, to be read in the same way, are one data set, however often and at once they come.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from store import files, owners, queueing
from store.columns import core
from store.database import Database
from store.datasets import uploads
from store.jobs.conditions import owned_by
from store.queueing import Limits, Newcomer, Submitter
from store.tables import Dataset, Upload, UploadPart
from store.upload_errors import PartsChanged, PartsMissing, UploadMismatch

MAX_RESTARTS = 3
DEADLINE_SECONDS = 3600.0
"""Of an import; one of 2 GB takes some minutes."""
_MOST_NAMED = 20


@dataclass(frozen=True)
class Whole:
    """The parts of an upload put together, as they were read."""

    file_ids: tuple[str, ...]
    size: int
    sha256: str


@dataclass(frozen=True)
class Completed:
    """The data set; whether it was there before."""

    dataset_id: str
    already_there: bool


def require_all(parts: Sequence[UploadPart]) -> None:
    """Raise `PartsMissing` unless the parts are numbered from 1 without a gap."""
    numbers = {part.number for part in parts}
    missing = [number for number in range(1, max(numbers, default=1) + 1) if number not in numbers]
    if missing:
        raise PartsMissing(missing[:_MOST_NAMED], len(missing))


def put_together(database: Database, parts: Sequence[UploadPart]) -> Iterator[Whole]:
    """What the parts come to, after each chunk that was read; the last one is all of them. Raises `FileDamaged`."""
    found, size, ids = hashlib.sha256(), 0, tuple(part.file_id for part in parts)
    for part in parts:
        for data in files.read(database, part.file_id):
            found.update(data)
            size += len(data)
            yield Whole(ids, size, "")
    yield Whole(ids, size, found.hexdigest())


def complete(session: Session, upload: Upload, whole: Whole, sha256: str, *, device: str, limits: Limits) -> Completed:
    """Queue the import on `device`. Raises `UploadMismatch`, `PartsChanged`, `QuotaExceeded`."""
    if whole.sha256 != sha256:
        raise UploadMismatch(whole.size, whole.sha256, sha256)
    owners.take_turn(session, upload.owner)
    uploads.lock(session, upload.id, owner=upload.owner)
    if tuple(part.file_id for part in uploads.parts(session, upload.id)) != whole.file_ids:
        raise PartsChanged
    known = same(session, upload.owner, sha256, upload.fingerprint)
    if known is None:
        _enter(session, upload, whole, device, limits)
    else:
        files.drop(session, whole.file_ids)
    dataset_id = known or upload.id
    uploads.become(session, upload.id, dataset_id)
    return Completed(dataset_id, known is not None)


def enter_by_reference(session: Session, upload: Upload, *, device: str, limits: Limits) -> None:
    """Queue an import that needs no upload: the worker gets the source. Raises `QuotaExceeded`."""
    _enter(session, upload, Whole((), 0, hashlib.sha256().hexdigest()), device, limits)
    uploads.become(session, upload.id, upload.id)


def same(session: Session, owner: str, sha256: str, fingerprint: str) -> str | None:
    """The data set of an owner that is made of these bytes in this way, unless that came to nothing."""
    statement = select(Dataset.id).where(
        Dataset.submitted_by == owner,
        Dataset.source_sha256 == sha256,
        Dataset.fingerprint == fingerprint,
        *owned_by(None),
        Dataset.state.not_in(uploads.ENDED_BADLY),
    )
    return session.scalars(statement.limit(1)).one_or_none()


def _enter(session: Session, upload: Upload, whole: Whole, device: str, limits: Limits) -> None:
    newcomer = Newcomer(MAX_RESTARTS, DEADLINE_SECONDS, upload.id)
    who = Submitter(upload.owner, device, upload.key_id)
    (job,) = queueing.enter(session.connection(), "dataset", [newcomer], who, limits)
    values = {
        "id": job["id"],
        "submitted_by": upload.owner,
        "submitted_at": job["created_at"],
        "name": upload.name,
        "file_name": upload.file_name,
        "spec": upload.spec,
        "fingerprint": upload.fingerprint,
        "source_size": whole.size,
        "source_sha256": whole.sha256,
    }
    session.execute(insert(core(Dataset)).values(values))
    for file_id in whole.file_ids:
        files.attach(session, upload.owner, file_id, job["id"])
