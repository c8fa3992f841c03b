"""Owners: who has jobs and keys, and how much of the store is theirs."""

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import NAME_CHARS
from store.columns import core
from store.database import clock, insert_if_absent
from store.errors import OwnerNotFound
from store.ids import new_id
from store.tables import Owner
from store.tables.owners import DEFAULT_OWNER
from store.text import storable

__all__ = ["DEFAULT_OWNER", "add_bytes", "create", "default", "find", "list_all"]


def default(session: Session) -> str:
    """The id of the owner that is there from the beginning."""
    values = {"id": DEFAULT_OWNER, "name": "default", "stored_bytes": 0, "created_at": clock()}
    insert_if_absent(session, Owner, values)
    return DEFAULT_OWNER


def create(session: Session, name: str) -> str:
    """The id of the owner of that name, who is made if there is none."""
    known = session.scalars(select(Owner.id).where(Owner.name == name)).one_or_none()
    if known is not None:
        return known
    values = {"id": new_id("own"), "name": storable(name, NAME_CHARS), "stored_bytes": 0, "created_at": clock()}
    session.execute(insert(core(Owner)).values(values))
    return str(values["id"])


def find(session: Session, owner_id: str) -> Owner:
    """One owner. Raises `OwnerNotFound`."""
    row = session.get(Owner, owner_id)
    if row is None:
        raise OwnerNotFound(owner_id)
    return row


def list_all(session: Session) -> list[Owner]:
    """All owners, oldest first."""
    return list(session.scalars(select(Owner).order_by(Owner.created_at, Owner.id)))


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
