"""Contents: bytes that any number of one owner's files refer to.

Invariant: `uses` is the number of rows in `files` that refer to a content. One whose bytes are all there is found by
its SHA-256 and size and referred to by one guarded UPDATE; one that nothing refers to any more never comes back.
Whoever refers to one or makes one has the owner's turn first, so that all take locks in one order.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import bindparam, insert, literal_column, select, update
from sqlalchemy.orm import Session

from store import owners
from store.columns import Words, core, one_of
from store.database import clock
from store.errors import QuotaExceeded
from store.ids import new_id
from store.tables import Content

_CONTENTS = core(Content)
_ALIKE = _CONTENTS.alias("alike")
_FOUND = (
    select(_ALIKE.c.id)
    .where(
        _ALIKE.c.owner == bindparam("of_owner"),
        _ALIKE.c.sha256 == bindparam("of_sha256"),
        _ALIKE.c.size == bindparam("of_size"),
        _ALIKE.c.whole_at.is_not(None),
        _ALIKE.c.uses > literal_column("0"),
    )
    .limit(1)
)
_USED_MORE = (
    update(_CONTENTS)
    .where(
        _CONTENTS.c.id == _FOUND.scalar_subquery(),
        _CONTENTS.c.whole_at.is_not(None),
        _CONTENTS.c.uses > literal_column("0"),
    )
    .values(uses=_CONTENTS.c.uses + bindparam("more"))
    .returning(_CONTENTS.c.id)
)
_USED_LESS = (
    update(_CONTENTS).where(_CONTENTS.c.id == bindparam("of_id")).values(uses=_CONTENTS.c.uses - bindparam("fewer"))
)
_SHARED = select(_CONTENTS.c.sha256, _CONTENTS.c.size).where(
    _CONTENTS.c.owner == bindparam("of_owner"),
    one_of(_CONTENTS.c.sha256, bindparam("of_sha256", type_=Words())),
    _CONTENTS.c.whole_at.is_not(None),
    _CONTENTS.c.uses > literal_column("0"),
)
_NEW_WHOLE = insert(_CONTENTS).values(created_at=clock(), whole_at=clock())

Key = tuple[str, int]
"""SHA-256 in hex, and size in bytes."""


def use_whole(session: Session, owner: str, sha256: str, size: int, times: int = 1) -> str | None:
    """Refer once more to the owner's whole content of that SHA-256 and size, and get its id; None: there is none."""
    like = {"of_owner": owner, "of_sha256": sha256, "of_size": size, "more": times}
    return session.execute(_USED_MORE, like).scalar_one_or_none()


def make(session: Session, owner: str, sha256: str, size: int, *, owner_bytes: int | None = None) -> str:
    """A content without bytes, which one file refers to; its size counts towards the owner from now on.

    Raises `QuotaExceeded` when the owner would have more than `owner_bytes`.
    """
    if not owners.add_bytes(session, owner, size, at_most=owner_bytes):
        raise QuotaExceeded("stored_bytes", owner_bytes or 0)
    values = {"id": new_id("con"), "owner": owner, "sha256": sha256, "size": size, "uses": 1, "created_at": clock()}
    session.execute(insert(_CONTENTS).values(values))
    return str(values["id"])


def shared(session: Session, owner: str, sha256s: Collection[str]) -> set[Key]:
    """Those of the owner's whole contents that have one of these SHA-256; `use_whole` refers to one, if it stays."""
    bound = {"of_owner": owner, "of_sha256": sha256s}
    return {(found.sha256, found.size) for found in session.execute(_SHARED, bound)}


def make_whole(
    session: Session, owner: str, uses: Mapping[Key, int], *, owner_bytes: int | None = None
) -> dict[Key, str]:
    """Contents, shown at once, whose bytes the caller writes in this transaction, and how many files refer to each.

    Raises `QuotaExceeded`.
    """
    if not uses:
        return {}
    if not owners.add_bytes(session, owner, sum(size for _, size in uses), at_most=owner_bytes):
        raise QuotaExceeded("stored_bytes", owner_bytes or 0)
    ids = {key: new_id("con") for key in uses}
    rows = [{"id": ids[key], "owner": owner, "sha256": key[0], "size": key[1], "uses": uses[key]} for key in uses]
    session.execute(_NEW_WHOLE, rows)
    return ids


def show(session: Session, content_id: str) -> None:
    """From now on other files may refer to it: its bytes are all there."""
    session.execute(update(_CONTENTS).where(_CONTENTS.c.id == content_id).values(whole_at=clock()))


def use_less(session: Session, content_id: str, times: int = 1) -> None:
    """Count files that refer to it no longer; the last of them leaves it to the purge."""
    session.execute(_USED_LESS, {"of_id": content_id, "fewer": times})
