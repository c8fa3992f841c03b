"""Who may write for a running job.

Invariant: a claim takes one queued row by one guarded UPDATE, and everything a worker writes afterwards begins with
`renew`, which changes nothing and raises `StaleLease` unless the worker still holds the row. An expired lease nobody
has reaped can be renewed: a database outage ends no training.
"""

import secrets
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Double, Integer, Select, Update, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from bncore.spec.limits import DEVICE_MODEL_CHARS, WORD_CHARS
from store.columns import core
from store.database import clock
from store.errors import StaleLease
from store.jobs.conditions import CLAIM_ORDER, IS_QUEUED, IS_RUNNING, is_due
from store.jobs.eventlog import Entry
from store.jobs.failures import Failure
from store.jobs.moves import RETURNED, Moved, carry_out, leave_running, move, moved_of, movement
from store.jobs.states import RESTING, State
from store.tables import Job
from store.text import storable

_JOB = core(Job).c


@dataclass(frozen=True)
class Worker:
    """Who claims: the process, and what it computes on."""

    process_id: str
    device: str
    device_model: str
    torch_version: str

    def __post_init__(self) -> None:
        # Whoever compares it with what is pinned compares what could be stored of it.
        object.__setattr__(self, "device_model", storable(self.device_model, DEVICE_MODEL_CHARS))
        object.__setattr__(self, "torch_version", storable(self.torch_version, WORD_CHARS))


@dataclass(frozen=True)
class Terms:
    """How a worker claims: how long one renewal of its lease lasts, and how many jobs an owner may have running."""

    lease_seconds: float
    running_per_owner: int | None = None
    """None: any number."""


@dataclass(frozen=True)
class Lease:
    """The right to write for one attempt of one job."""

    job_id: str
    attempt: int
    token: str


@dataclass(frozen=True)
class Go:
    """Carry on."""


@dataclass(frozen=True)
class Stop:
    """Save, end, and store the outcome that fits the reason; after `kill` there is no time to save."""

    reason: Literal["cancel", "pause", "kill"]


def new_token() -> str:
    """A token for a claim. Keep it until the claim's answer is there: with it a claim can be repeated."""
    return secrets.token_hex(16)


def claim(session: Session, worker: Worker, terms: Terms, token: str) -> Moved | None:
    """Take the next queued job of the worker's queue: highest priority, then by turns of owners, then the oldest.

    None when there is none. When the answer to a claim was lost, `claimed` says what it took.
    """
    bound = {
        "to_device": worker.device,
        "to_model": worker.device_model,
        "to_torch": worker.torch_version,
        "to_process": worker.process_id,
        "to_token": token,
        "for_seconds": terms.lease_seconds,
        "at_most": terms.running_per_owner,
    }
    statement = _claiming(terms.running_per_owner is not None)
    moved = carry_out(session, statement, State.RUNNING, lambda one: _claimed_by(worker, one), bound)
    return moved[0] if moved else None


def claimed(session: Session, token: str) -> Moved | None:
    """The running job that was claimed with this token, if there is one."""
    found = session.execute(select(*RETURNED).where(IS_RUNNING, _JOB.lease_token == token)).one_or_none()
    return None if found is None else moved_of(found)


def pin_torch(session: Session, lease: Lease, version: str) -> None:
    """Remember another torch version: nothing of the earlier one is left in the job."""
    session.execute(update(core(Job)).where(*held(lease)).values(pinned_torch_version=version))


def renew(
    session: Session, lease: Lease, *, news: bool = False, phase: str | None = None, begun: bool = False
) -> Go | Stop:
    """Prolong the lease, and lock the job until the transaction ends. Raises `StaleLease`.

    With `news` it is a visible change; `phase` and `begun` (training has started) come along in the same statement.
    """
    statement = _renewal(news or begun or phase is not None, phase is not None, begun)
    found = session.execute(statement, {**_bound(lease), "new_phase": phase}).one_or_none()
    if found is None:
        raise StaleLease(lease.job_id, lease.attempt)
    return Go() if found.desired is None else Stop(found.desired)


def release(session: Session, lease: Lease) -> Moved:
    """Hand the job back to its queue; no restart is counted. Raises `StaleLease`."""
    return _left(session, lease, None)


def end_badly(session: Session, lease: Lease, failure: Failure) -> Moved:
    """End the attempt by a failure, whose code says whether the job is queued again. Raises `StaleLease`."""
    return _left(session, lease, failure)


def succeed(session: Session, lease: Lease, entry: Entry) -> Moved:
    """End the job well. A job that is done has succeeded, whatever was asked meanwhile. Raises `StaleLease`."""
    moved = carry_out(session, _succeeding(), State.SUCCEEDED, lambda _: entry, _bound(lease))
    return _moved(moved[0] if moved else None, lease)


def stop_as_asked(session: Session, lease: Lease, target: Literal[State.CANCELLED, State.PAUSED]) -> Moved:
    """End the attempt because its owner wanted that. Raises `StaleLease`."""
    entry = Entry(target.value, "As asked.")
    return _moved(move(session, lease.job_id, target, lambda _: entry, *held(lease), desired=None), lease)


def rest(session: Session, lease: Lease, entry: Entry) -> Moved:
    """Let the job rest, with nobody at work, until something queues it again, for any worker. Raises `StaleLease`.

    The caller has renewed in this transaction and heard no wish.
    """
    anywhere = {"pinned_device_kind": None, "pinned_device_model": None, "pinned_torch_version": None}
    return _moved(move(session, lease.job_id, State.PAUSED, lambda _: entry, *held(lease), **anywhere), lease)


def halt(session: Session, lease: Lease, entry: Entry) -> Moved:
    """Let the job rest until that is decided which it waits for, for a worker like the one that leaves it. Raises
    `StaleLease`.

    The caller has renewed in this transaction and heard no wish.
    """
    return _moved(move(session, lease.job_id, State.PAUSED, lambda _: entry, *held(lease), phase=RESTING), lease)


def give_up(session: Session, lease: Lease, failure: Failure) -> Moved:
    """End the job as cancelled, by nobody's wish, with the reason. Raises `StaleLease`."""
    entry = Entry(failure.code, failure.message)
    why = {"failure_code": failure.code, "failure_message": failure.message, "desired": None}
    return _moved(move(session, lease.job_id, State.CANCELLED, lambda _: entry, *held(lease), **why), lease)


def held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a row is the lease's."""
    return (_JOB.id == lease.job_id, IS_RUNNING, _JOB.lease_token == lease.token, _JOB.attempt == lease.attempt)


@cache
def _claiming(limited: bool) -> Update:
    """The statement of a claim; made once, since making it costs more than running it."""
    return movement(
        State.RUNNING,
        _JOB.id == _next_queued(limited).scalar_subquery(),
        lease_token=bindparam("to_token"),
        lease_seconds=bindparam("for_seconds", type_=Double()),
        lease_expires_at=clock() + bindparam("for_seconds", type_=Double()),
        attempt=_JOB.attempt + 1,
        process_id=bindparam("to_process"),
        phase="restoring",
        claimed_at=clock(),
        first_claimed_at=func.coalesce(_JOB.first_claimed_at, clock()),
        pinned_device_kind=bindparam("to_device"),
        pinned_device_model=func.coalesce(_JOB.pinned_device_model, bindparam("to_model")),
        pinned_torch_version=func.coalesce(_JOB.pinned_torch_version, bindparam("to_torch")),
    )


def _next_queued(limited: bool) -> Select[str]:
    statement = select(_JOB.id).where(
        IS_QUEUED,
        _JOB.queue == bindparam("to_device"),
        is_due(),
        or_(_JOB.pinned_device_model.is_(None), _JOB.pinned_device_model == bindparam("to_model")),
    )
    if limited:
        # Few run, and an index has those alone.
        running = select(_JOB.owner).where(IS_RUNNING).group_by(_JOB.owner)
        busy = running.having(func.count() >= bindparam("at_most", type_=Integer()))
        statement = statement.where(_JOB.owner.not_in(busy))
    # SKIP LOCKED (PostgreSQL only): claimants racing for different rows do not wait for each other.
    return statement.order_by(*CLAIM_ORDER).limit(1).with_for_update(skip_locked=True)


@cache
def _renewal(visible: bool, phase: bool, begun: bool) -> Update:
    values: dict[str, Any] = {"lease_expires_at": clock() + _JOB.lease_seconds}
    if visible:
        values["version"] = _JOB.version + 1
    if phase:
        values["phase"] = bindparam("new_phase")
    if begun:
        values["started_at"] = func.coalesce(_JOB.started_at, clock())
    return update(core(Job)).where(*_held_by()).values(values).returning(_JOB.desired)


@cache
def _succeeding() -> Update:
    return movement(State.SUCCEEDED, *_held_by())


def _held_by() -> tuple[ColumnElement[bool], ...]:
    """As `held`, of the lease that is bound."""
    return (
        _JOB.id == bindparam("held_id"),
        IS_RUNNING,
        _JOB.lease_token == bindparam("held_token"),
        _JOB.attempt == bindparam("held_attempt"),
    )


def _bound(lease: Lease) -> dict[str, Any]:
    return {"held_id": lease.job_id, "held_attempt": lease.attempt, "held_token": lease.token}


def _left(session: Session, lease: Lease, failure: Failure | None) -> Moved:
    statement = select(_JOB.desired, _JOB.restarts < _JOB.max_restarts).where(*held(lease)).with_for_update()
    found = session.execute(statement).one_or_none()
    if found is None:
        raise StaleLease(lease.job_id, lease.attempt)
    desired, restarts_left = found
    return _moved(
        leave_running(session, lease.job_id, desired, bool(restarts_left), *held(lease), failure=failure), lease
    )


def _claimed_by(worker: Worker, moved: Moved) -> Entry:
    return Entry("claimed", f"Attempt {moved.attempt} begins.", dict(vars(worker)))


def _moved(moved: Moved | None, lease: Lease) -> Moved:
    if moved is None:
        raise StaleLease(lease.job_id, lease.attempt)
    return moved
