"""Attempts at a job, told from its log: there is no other record of them.

Invariant: an attempt ends with the first line of its number that says how; later lines of that number are about the job
while it rests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import JobEvent

_ENDINGS = ("succeeded", "failed", "cancelled", "paused", "rested", "pruned", "released", "restarted", "waits")


@dataclass(frozen=True)
class Attempt:
    """One try at a job by one worker; what has not happened yet is None."""

    number: int
    process_id: str | None
    device: str | None
    device_model: str | None
    torch_version: str | None
    claimed_at: float
    started_at: float | None = None
    restored_step: int | None = None
    """Where training began, once it has."""
    ended_at: float | None = None
    ending: str | None = None
    code: str | None = None
    """Of the failure, if that was it."""
    message: str | None = None


def page(session: Session, job_id: str, after: int = 0, limit: int = 20) -> list[Attempt]:
    """Up to `limit` attempts with numbers above `after`, oldest first."""
    mine = JobEvent.job_id == job_id
    claims = select(JobEvent).where(mine, JobEvent.kind == "claimed", JobEvent.attempt > after)
    found = {line.attempt: _claimed(line) for line in session.scalars(claims.order_by(JobEvent.number).limit(limit))}
    later = select(JobEvent).where(
        mine, JobEvent.attempt.in_(found), JobEvent.kind.in_(("started", *_ENDINGS))
    )  # fmt: skip
    for line in session.scalars(later.order_by(JobEvent.number)):
        found[line.attempt] = _told(found[line.attempt], line)
    return list(found.values())


def _claimed(line: JobEvent) -> Attempt:
    names: Sequence[str] = ("process_id", "device", "device_model", "torch_version")
    return Attempt(number=line.attempt, claimed_at=line.at, **{name: line.data.get(name) for name in names})


def _told(attempt: Attempt, line: JobEvent) -> Attempt:
    if line.kind == "started":
        return replace(attempt, started_at=line.at, restored_step=line.data.get("step"))
    if attempt.ended_at is not None:
        return attempt
    code = line.data.get("code")
    return replace(attempt, ended_at=line.at, ending=line.kind, code=code, message=line.message)
