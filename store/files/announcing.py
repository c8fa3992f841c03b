"""Announcing a file: its row is there before its bytes, and refers to bytes that are there already.

Invariant: what an owner has already is not stored again, and what is announced twice by one job is one file.
"""

from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import NAME_CHARS
from store import owners
from store.columns import core
from store.database import clock
from store.errors import FileNotFound
from store.files import contents
from store.ids import new_id
from store.jobs.leases import Lease, renew
from store.tables import File, Job
from store.text import storable

_FILES = core(File)


@dataclass(frozen=True)
class Announced:
    """A file that is about to be stored; its size in bytes and its SHA-256 in hex are those of all of it."""

    name: str
    kind: str
    step: int | None
    size: int
    sha256: str


@dataclass(frozen=True)
class Begun:
    file_id: str
    whole: bool
    """Whether its bytes are there, so that none need be sent."""


def begin(session: Session, lease: Lease, announced: Announced, owner_bytes: int | None = None) -> Begun:
    """Announce a file of the lease's job; the same one when the job has announced it before, in whichever attempt.

    Complete it in any case: only then goes what the job had under its name.

    Raises `StaleLease`, and `QuotaExceeded` when the owner would have more than `owner_bytes`.
    """
    renew(session, lease)
    known = _known(session, lease.job_id, announced)
    if known is not None:
        return known
    owner = session.execute(select(core(Job).c.owner).where(core(Job).c.id == lease.job_id)).scalar_one()
    return announce(session, owner, lease.job_id, announced, owner_bytes)


def begin_of(session: Session, owner: str, announced: Announced, owner_bytes: int | None = None) -> Begun:
    """Announce a file that an owner brings, of no job yet: a new one each time.

    Raises `QuotaExceeded`. One that is not attached within `purging.UNATTACHED_SECONDS` is dropped.
    """
    return announce(session, owner, None, announced, owner_bytes)


def announce(
    session: Session, owner: str, job_id: str | None, announced: Announced, owner_bytes: int | None = None
) -> Begun:
    """A new file, for whoever knows that it is one. Raises `QuotaExceeded`."""
    owners.take_turn(session, owner)
    content_id = contents.use_whole(session, owner, announced.sha256, announced.size)
    whole = content_id is not None
    if content_id is None:
        content_id = contents.make(session, owner, announced.sha256, announced.size, owner_bytes=owner_bytes)
    values = {
        **vars(announced),
        "id": new_id("fil"),
        "owner": owner,
        "job_id": job_id,
        "name": storable(announced.name, NAME_CHARS),
        "content_id": content_id,
        "created_at": clock(),
        "whole_at": clock() if whole else None,
    }
    session.execute(insert(_FILES).values(values))
    return Begun(str(values["id"]), whole)


def attach(session: Session, owner: str, file_id: str, job_id: str) -> None:
    """Give an uploaded file to the job that it is for. Raises `FileNotFound`, also when another job has it."""
    free = (_FILES.c.job_id.is_(None) | (_FILES.c.job_id == job_id), _FILES.c.dropped_at.is_(None))
    mine = update(_FILES).where(_FILES.c.id == file_id, _FILES.c.owner == owner, *free)
    if session.execute(mine.values(job_id=job_id).returning(_FILES.c.id)).first() is None:
        raise FileNotFound(file_id)


def _known(session: Session, job_id: str, announced: Announced) -> Begun | None:
    said = {**vars(announced), "name": storable(announced.name, NAME_CHARS), "job_id": job_id}
    statement = select(_FILES.c.id, _FILES.c.whole_at).where(
        # `is` also where there is no step.
        *(_FILES.c[name].is_not_distinct_from(value) for name, value in said.items() if name == "step"),
        *(_FILES.c[name] == value for name, value in said.items() if name != "step"),
        _FILES.c.dropped_at.is_(None),
    )
    found = session.execute(statement.limit(1)).one_or_none()
    return None if found is None else Begun(found.id, found.whole_at is not None)
