"""Owners: who has jobs and keys, and how much of the store is theirs."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import NAME_CHARS
from store import pages
from store.columns import core
from store.database import Asks, clock, insert_if_absent, kind_of
from store.errors import OwnerNotFound
from store.ids import new_id
from store.jobs.conditions import IS_QUEUED, IS_RUNNING
from store.pages import Page
from store.tables import Job, Owner
from store.tables.owners import DEFAULT_OWNER
from store.text import storable

__all__ = [
    "DEFAULT_OWNER",
    "ID_PREFIX",
    "Usage",
    "add_bytes",
    "create",
    "default",
    "find",
    "list_all",
    "page",
    "resolve",
    "take_turn",
    "usage",
]

ID_PREFIX = "own_"
_TURN = select(Owner.id).where(Owner.id == bindparam("of_owner")).with_for_update(key_share=True)


@dataclass(frozen=True)
class Usage:
    """How many jobs of an owner wait and run."""

    queued: int = 0
    running: int = 0


def default(session: Session) -> str:
    """The id of the owner that is there from the beginning."""
    values = {"id": DEFAULT_OWNER, "name": "default", "stored_bytes": 0, "created_at": clock()}
    insert_if_absent(session, Owner, values)
    return DEFAULT_OWNER


def create(session: Session, name: str) -> str:
    """The id of the owner of that name, who is made if there is none."""
    stored = storable(name, NAME_CHARS)
    named = select(Owner.id).where(Owner.name == stored)
    known = session.scalars(named).one_or_none()
    if known is not None:
        return known
    values = {"id": new_id("own"), "name": stored, "stored_bytes": 0, "created_at": clock()}
    # Whoever makes the same one at this moment is waited for.
    return str(values["id"]) if insert_if_absent(session, Owner, values) else session.scalars(named).one()


def resolve(session: Session, id_or_name: str) -> str:
    """The id of an owner, by either. Raises `OwnerNotFound`."""
    matches = (Owner.id == id_or_name) | (Owner.name == id_or_name)
    # An owner that is called like the id of another does not come before it.
    found = session.scalars(select(Owner.id).where(matches).order_by(Owner.id != id_or_name).limit(1)).one_or_none()
    if found is None:
        raise OwnerNotFound(id_or_name)
    return found


def take_turn(session: Asks, owner_id: str) -> None:
    """Wait for whoever else queues something of this owner, so that each counts what the one before has added.

    On SQLite the transaction has done so when it began.
    """
    if kind_of(session) == "postgresql":
        session.execute(_TURN, {"of_owner": owner_id})


def find(session: Session, owner_id: str) -> Owner:
    """One owner. Raises `OwnerNotFound`."""
    row = session.get(Owner, owner_id)
    if row is None:
        raise OwnerNotFound(owner_id)
    return row


def list_all(session: Session) -> list[Owner]:
    """All owners, oldest first."""
    return list(session.scalars(select(Owner).order_by(Owner.created_at, Owner.id)))


def page(session: Session, cursor: str | None = None, limit: int = 20) -> Page[Owner]:
    """A page of all owners, oldest first. Raises `CursorInvalid`."""
    return pages.by_age(session, select(Owner), Owner, ["owners"], cursor, limit)


def usage(session: Session, owner_ids: Collection[str]) -> dict[str, Usage]:
    """What each of these owners has in the queue and at work."""
    counts = {}
    for name, condition in (("queued", IS_QUEUED), ("running", IS_RUNNING)):
        statement = select(Job.owner, func.count()).where(condition, Job.owner.in_(owner_ids)).group_by(Job.owner)
        counts[name] = {owner: number for owner, number in session.execute(statement)}
    return {one: Usage(counts["queued"].get(one, 0), counts["running"].get(one, 0)) for one in owner_ids}


def add_bytes(session: Session, owner_id: str, size: int, *, at_most: int | None = None) -> bool:
    """Count bytes towards an owner, or, when negative, no longer. False, and nothing, if that would be too many."""
    table = core(Owner)
    counted = update(table).where(table.c.id == owner_id).values(stored_bytes=table.c.stored_bytes + size)
    if at_most is not None:
        counted = counted.where(table.c.stored_bytes + size <= at_most)
    if session.execute(counted.returning(table.c.id)).first() is not None:
        return True
    # Nobody counts for an owner who has no row.
    return at_most is None or session.get(Owner, owner_id) is None
