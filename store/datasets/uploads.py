"""Uploads: begun, filled part by part, looked at, given up.

Invariant: a part counts once all of it is stored and its SHA-256 is the announced one, so that an upload that is cut
off goes on with the parts that are missing. What is not completed within a day is forgotten, bytes and all.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from store import files, owners
from store.columns import core, one_of, unattached
from store.database import clock, insert_if_absent, now
from store.errors import DatasetNotFound, IdempotencyConflict
from store.files import Announced
from store.ids import new_id
from store.jobs.conditions import owned_by
from store.jobs.states import State
from store.tables import File, Job, Upload, UploadPart
from store.upload_errors import UploadCompleted, UploadTooLarge

LIFETIME_SECONDS = 24 * 3600.0
MOST_PARTS = 10_000
PART = "part"
"""The kind of a part's file."""
ENDED_BADLY = (State.FAILED, State.CANCELLED)
_STEP_UPLOADS = 20
_UPLOAD, _PART, _FILE = core(Upload), core(UploadPart), core(File)


@dataclass(frozen=True)
class Wanted:
    """What is to become a data set: its name, that of the file, and how the file is to be read."""

    name: str
    file_name: str
    spec: dict[str, Any]
    fingerprint: str


@dataclass(frozen=True)
class Part:
    """A piece as it is announced."""

    number: int
    size: int
    sha256: str


def begin(
    session: Session, wanted: Wanted, *, owner: str, key_id: str | None = None, idempotency_key: str | None = None
) -> Upload:
    """A new upload; with a key that an owner has used for the same one before, that one as it is now, unless it came to
    nothing.

    Raises `IdempotencyConflict` when the key stands for another one.
    """
    at = round(now(session), 6)
    if idempotency_key is not None:
        expired = (_UPLOAD.c.owner == owner, _UPLOAD.c.idempotency_key == idempotency_key, _UPLOAD.c.expires_at <= at)
        _forget(session, list(session.scalars(select(_UPLOAD.c.id).where(*expired))))
    values = {
        **vars(wanted),
        "id": new_id("dat"),
        "owner": owner,
        "key_id": key_id,
        "idempotency_key": idempotency_key,
        "created_at": at,
        "expires_at": at + LIFETIME_SECONDS,
    }
    if insert_if_absent(session, Upload, values):
        return unattached(Upload, values, _UPLOAD.c.keys())
    known = session.scalars(select(Upload).where(Upload.owner == owner, Upload.idempotency_key == idempotency_key))
    found = known.one_or_none()
    # One that is given up at this moment was in the way and is not there any more.
    if found is None or _came_to_nothing(session, found.dataset_id):
        _forget(session, [] if found is None else [found.id])
        return begin(session, wanted, owner=owner, key_id=key_id, idempotency_key=idempotency_key)
    if (found.name, found.file_name, found.fingerprint) != (wanted.name, wanted.file_name, wanted.fingerprint):
        raise IdempotencyConflict(idempotency_key or "")
    return found


def get(session: Session, upload_id: str, *, owner: str | None) -> Upload:
    """One that is not forgotten yet, completed or not. Raises `DatasetNotFound`."""
    statement = select(Upload).where(Upload.id == upload_id, Upload.expires_at > clock())
    if owner is not None:
        statement = statement.where(Upload.owner == owner)
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise DatasetNotFound(upload_id)
    return found


def page(session: Session, owner: str | None, limit: int) -> list[Upload]:
    """The newest of those that are not completed."""
    statement = select(Upload).where(Upload.dataset_id.is_(None), Upload.expires_at > clock())
    if owner is not None:
        statement = statement.where(Upload.owner == owner)
    return list(session.scalars(statement.order_by(Upload.created_at.desc(), Upload.id.desc()).limit(limit)))


def parts(session: Session, upload_id: str) -> list[UploadPart]:
    """Those that are there, in their order."""
    statement = select(UploadPart).where(UploadPart.upload_id == upload_id)
    return list(session.scalars(statement.order_by(UploadPart.number)))


def begin_part(
    session: Session, upload_id: str, part: Part, *, owner: str | None, most_bytes: int, owner_bytes: int | None
) -> tuple[str, files.Begun]:
    """Announce a part; whose it is, and its file.

    Raises `DatasetNotFound`, `UploadCompleted`, `UploadTooLarge`, `QuotaExceeded`.
    """
    upload = get(session, upload_id, owner=owner)
    _require_open(upload.dataset_id)
    _require_room(session, upload_id, part, most_bytes)
    announced = Announced(f"{PART}-{part.number:05d}", PART, None, part.size, part.sha256)
    return upload.owner, files.begin_of(session, upload.owner, announced, owner_bytes)


def finish_part(
    session: Session, upload_id: str, part: Part, *, owner: str, file_id: str, digest: str, most_bytes: int
) -> None:
    """Count a part as there, in place of an earlier one of its number. `digest` is that of what has come.

    Raises `DatasetNotFound`, `UploadCompleted`, `UploadTooLarge`, `FileDamaged`, `FileIncomplete`.
    """
    # In the order of all who change contents: the owner first.
    owners.take_turn(session, owner)
    lock(session, upload_id, owner=owner)
    _require_room(session, upload_id, part, most_bytes)
    files.complete_of(session, owner, file_id, digest)
    mine = (_PART.c.upload_id == upload_id, _PART.c.number == part.number)
    earlier = session.execute(delete(_PART).where(*mine).returning(_PART.c.file_id)).scalars().all()
    files.drop(session, earlier)
    session.execute(insert(_PART).values(upload_id=upload_id, file_id=file_id, **vars(part)))


def lose_part(session: Session, upload_id: str, file_id: str, *, owner: str) -> list[int]:
    """Give up a part that was found damaged, so that it is sent again and stored anew; its number, unless it was
    replaced meanwhile. Raises `DatasetNotFound`, `UploadCompleted`."""
    owners.take_turn(session, owner)
    lock(session, upload_id, owner=owner)
    files.condemn(session, [file_id])
    mine = (_PART.c.upload_id == upload_id, _PART.c.file_id == file_id)
    numbers = list(session.execute(delete(_PART).where(*mine).returning(_PART.c.number)).scalars())
    files.drop(session, [file_id] if numbers else [])
    return numbers


def lock(session: Session, upload_id: str, *, owner: str) -> None:
    """Hold an open upload until the transaction ends. Raises `DatasetNotFound`, `UploadCompleted`."""
    statement = select(_UPLOAD.c.dataset_id).where(_UPLOAD.c.id == upload_id, _UPLOAD.c.owner == owner)
    found = session.execute(statement.with_for_update()).one_or_none()
    if found is None:
        raise DatasetNotFound(upload_id)
    _require_open(found.dataset_id)


def become(session: Session, upload_id: str, dataset_id: str) -> None:
    """Say which data set a locked upload is by now; its parts are that one's, or nobody's."""
    session.execute(delete(_PART).where(_PART.c.upload_id == upload_id))
    session.execute(update(_UPLOAD).where(_UPLOAD.c.id == upload_id).values(dataset_id=dataset_id))


def give_up(session: Session, upload_id: str, *, owner: str | None) -> None:
    """Forget an upload, and what is stored of it.

    Raises `UploadCompleted` where another data set has become of it, `DatasetNotFound` also where its own is deleted.
    """
    upload = get(session, upload_id, owner=owner)
    if upload.dataset_id == upload.id:
        raise DatasetNotFound(upload_id)
    lock(session, upload_id, owner=upload.owner)
    _forget(session, [upload_id])


def discard_part(session: Session, owner: str, file_id: str) -> None:
    """Give up the file of a part of which nobody was told that it is there, unless it counts as there all the same."""
    # Whoever finishes it at this moment has this turn, and is waited for.
    owners.take_turn(session, owner)
    counted = exists().where(_PART.c.file_id == _FILE.c.id)
    useless = select(_FILE.c.id).where(_FILE.c.id == file_id, _FILE.c.job_id.is_(None), ~counted)
    files.drop(session, session.scalars(useless).all())


def purge(session: Session) -> int:
    """Forget some of those whose time is over; how many."""
    # As a value: an index is entered at one, and not at a function that changes while it runs.
    statement = select(_UPLOAD.c.id).where(_UPLOAD.c.expires_at <= now(session)).order_by(_UPLOAD.c.expires_at)
    expired = session.scalars(statement.limit(_STEP_UPLOADS)).all()
    _forget(session, list(expired))
    return len(expired)


def _forget(session: Session, upload_ids: list[str]) -> None:
    if not upload_ids:
        return
    # A part that is finished at this moment, or a data set that it becomes, is waited for: its files are known then.
    mine = select(_UPLOAD.c.id).where(one_of(_UPLOAD.c.id, upload_ids)).order_by(_UPLOAD.c.id)
    session.execute(mine.with_for_update()).all()
    theirs = select(_PART.c.file_id).where(one_of(_PART.c.upload_id, upload_ids))
    files.drop(session, session.scalars(theirs).all())
    session.execute(delete(_UPLOAD).where(one_of(_UPLOAD.c.id, upload_ids)))


def _came_to_nothing(session: Session, dataset_id: str | None) -> bool:
    """Whether a completed upload has to be made again, if that is wanted: the data set is gone, or was never one."""
    if dataset_id is None:
        return False
    kept = select(Job.id).where(Job.id == dataset_id, *owned_by(None), Job.state.not_in(ENDED_BADLY))
    return session.scalars(kept).one_or_none() is None


def _require_open(dataset_id: str | None) -> None:
    if dataset_id is not None:
        raise UploadCompleted(dataset_id)


def _require_room(session: Session, upload_id: str, part: Part, most_bytes: int) -> None:
    others = select(func.coalesce(func.sum(_PART.c.size), 0)).where(
        _PART.c.upload_id == upload_id, _PART.c.number != part.number
    )
    if int(session.execute(others).scalar_one()) + part.size > most_bytes:
        raise UploadTooLarge(most_bytes)
