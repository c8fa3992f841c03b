"""What the trainers of a job print, kept for whoever asks why it went as it did.

Invariant: of an attempt the first and the last `KEPT_BYTES` stay, whatever it prints; a place in it is a number of
bytes, and stays the same when what lies before it is given up.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from store.columns import core
from store.jobs.leases import Go, Lease, Stop, renew
from store.tables import JobLog

KEPT_BYTES = 512 << 10
"""At either end."""
MAX_PIECE_BYTES = 64 << 10
_SMALL_BYTES = 16 << 10
"""Pieces grow to this, so that a line now and then does not make a row each."""


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end`; `start` is later than asked where what was asked for is not kept."""

    data: bytes
    start: int
    end: int


def append(session: Session, lease: Lease, start: int, data: bytes) -> Go | Stop:
    """Renew the lease and store what was printed from byte `start` of the attempt; a repeat replaces it.

    Raises `StaleLease`.
    """
    answer = renew(session, lease, news=True)
    if len(data) > MAX_PIECE_BYTES:
        raise ValueError(f"a piece has at most {MAX_PIECE_BYTES} bytes")
    mine = _of(lease.job_id, lease.attempt)
    newest = select(JobLog.start, JobLog.data).where(*mine).order_by(JobLog.start.desc()).limit(1)
    last = session.execute(newest).one_or_none()
    end = start + len(data)
    if last is not None and last.start <= start <= last.start + len(last.data):
        before = last.data[: start - last.start]
        if before != last.data or len(before) < _SMALL_BYTES:
            start, data = last.start, before + data
    table = core(JobLog)
    session.execute(delete(table).where(*mine, JobLog.start >= start))
    session.execute(
        insert(table).values(job_id=lease.job_id, attempt=lease.attempt, start=start, size=len(data), data=data)
    )
    if end > 2 * KEPT_BYTES:
        middle = (JobLog.start >= KEPT_BYTES, JobLog.start + JobLog.size <= end - KEPT_BYTES)
        session.execute(delete(table).where(*mine, *middle))
    return answer


def end_of(session: Session, job_id: str, attempt: int) -> int:
    """How many bytes the attempt has printed, as far as they were stored."""
    statement = select(func.max(JobLog.start + JobLog.size)).where(*_of(job_id, attempt))
    return session.execute(statement).scalar_one() or 0


def read(session: Session, job_id: str, attempt: int, after: int, at_most: int) -> Piece:
    """What was printed from byte `after` on: up to `at_most` bytes, without a gap; empty when nothing more is there."""
    found, start = b"", after
    while len(found) < at_most:
        reached = start + len(found)
        beyond = (JobLog.start + JobLog.size > reached, *(() if not found else (JobLog.start == reached,)))
        statement = select(JobLog.start, JobLog.data).where(*_of(job_id, attempt), *beyond)
        piece = session.execute(statement.order_by(JobLog.start).limit(1)).one_or_none()
        if piece is None:
            break
        start = start if found else max(start, piece.start)
        found += piece.data[start + len(found) - piece.start :]
    found = found[:at_most]
    return Piece(found, start, start + len(found))


def tail(session: Session, job_id: str, attempt: int, lines: int, at_most: int) -> Piece:
    """The last `lines` of what was printed, as far as `at_most` bytes hold them."""
    end = end_of(session, job_id, attempt)
    found = b""
    while len(found) < at_most and found.count(b"\n") <= lines:
        before = JobLog.start + JobLog.size == end - len(found)
        statement = select(JobLog.data).where(*_of(job_id, attempt), before)
        piece = session.scalars(statement.order_by(JobLog.start.desc()).limit(1)).one_or_none()
        if piece is None:
            break
        found = piece + found
    kept = b"".join(found.splitlines(keepends=True)[-lines:])[-at_most:]
    return Piece(kept, end - len(kept), end)


def _of(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return (JobLog.job_id == job_id, JobLog.attempt == attempt)
