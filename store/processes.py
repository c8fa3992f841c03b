"""Heartbeats of relays and workers.

Invariant: a process lives if its heartbeat is younger than a given age by the database's clock; no host's clock counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import DEVICE_MODEL_CHARS, HOST_CHARS, TROUBLE_CHARS
from store.database import clock
from store.ids import new_id
from store.tables import Process
from store.text import storable

_LONGEST = {"host": HOST_CHARS, "device_model": DEVICE_MODEL_CHARS, "trouble": TROUBLE_CHARS}
_QUIETLY = {"synchronize_session": False}


@dataclass(frozen=True)
class Heartbeat:
    """What a process says of itself, each time whole."""

    id: str
    kind: str
    host: str
    pid: int
    device: str | None = None
    device_model: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    broker_ok: bool | None = None
    job_id: str | None = None
    trouble: str | None = None


def new_process_id() -> str:
    """An id for a process that starts; it keeps it for its life."""
    return new_id("prc")


def beat(session: Session, heartbeat: Heartbeat) -> None:
    """Say that the process lives, for the first time or again."""
    said = {**vars(heartbeat), "versions": dict(heartbeat.versions)}
    cut = {name: storable(said[name], most) for name, most in _LONGEST.items() if said[name] is not None}
    values = {**said, **cut, "heartbeat_at": clock()}
    known = update(Process).where(Process.id == heartbeat.id).values(values).returning(Process.id)
    if session.execute(known, execution_options=_QUIETLY).first() is None:
        session.execute(insert(Process).values(**values, started_at=clock()))


def live(session: Session, *, within_seconds: float, kind: str | None = None) -> list[Process]:
    """The processes that have said so within that many seconds, oldest first."""
    statement = select(Process).where(Process.heartbeat_at > clock() - within_seconds)
    if kind is not None:
        statement = statement.where(Process.kind == kind)
    statement = statement.order_by(Process.started_at, Process.id)
    return list(session.scalars(statement, execution_options={"populate_existing": True}))


def device_is_live(session: Session, device: str, *, within_seconds: float) -> bool:
    """Whether a worker for that device lives."""
    return any(process.device == device for process in live(session, within_seconds=within_seconds, kind="worker"))


def leave(session: Session, process_id: str) -> None:
    """Say goodbye: the process ends as it should."""
    session.execute(delete(Process).where(Process.id == process_id), execution_options=_QUIETLY)


def purge(session: Session, *, older_than_seconds: float) -> int:
    """Forget processes that have said nothing for that long; how many there were."""
    statement = delete(Process).where(Process.heartbeat_at < clock() - older_than_seconds).returning(Process.id)
    return len(session.execute(statement, execution_options=_QUIETLY).all())
