"""Listings of checkpoints, newest step first: a page of them, or those that a summary shows."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import checkpoints, cursors
from store.checkpoints import Position
from store.errors import CursorInvalid
from store.tables import Checkpoint

_KINDS = ("best", "last", "periodic")


@dataclass(frozen=True)
class Page:
    """Checkpoints, and where the next page begins; None after the last."""

    rows: list[Checkpoint]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def page(session: Session, experiment_id: str, cursor: str | None = None, limit: int = 20) -> Page:
    """One page. Raises `CursorInvalid` for a cursor of another experiment or none of ours."""
    scope = ["checkpoints", experiment_id]
    after = None if cursor is None else _position(cursors.decode(cursor, scope))
    found = checkpoints.listed(session, experiment_id, after, limit + 1)
    shown = found[:limit]
    if len(found) <= limit:
        return Page(shown, None)
    last = shown[-1]
    return Page(shown, cursors.encode((float(last.step), f"{last.kind} {last.id}"), scope))


def newest(session: Session, experiment_id: str, limit: int) -> list[Checkpoint]:
    """The first `limit` of the listing, and the newest of kind best, wherever that is."""
    found = checkpoints.listed(session, experiment_id, limit=limit)
    if len(found) < limit or any(row.kind == "best" for row in found):
        return found
    best = (
        select(Checkpoint)
        .where(*checkpoints.readable(experiment_id), Checkpoint.kind == "best")
        .order_by(Checkpoint.step.desc(), Checkpoint.attempt.desc())
        .limit(1)
    )
    return [*found, *session.scalars(best)]


def _position(position: tuple[float, str]) -> Position:
    step, place = position
    kind, space, checkpoint_id = place.partition(" ")
    if not space or kind not in _KINDS or not 0 <= step < 2**63:
        raise CursorInvalid
    return int(step), kind, checkpoint_id
