"""The one place where a job changes its state, with everything that follows from the change.

Invariant: a move goes along `states.ALLOWED`, is decided inside the UPDATE, and is a line of the log; a row that
becomes queued gets its bell in the same transaction; a row that leaves `running` has no lease.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Update, case, func, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import ScalarSelect

from bncore.spec.limits import WORD_CHARS
from store.columns import core
from store.database import clock
from store.jobs import bells, eventlog
from store.jobs.conditions import IS_QUEUED, elapsed_seconds, still_in_state
from store.jobs.eventlog import Entry, Line
from store.jobs.failures import WAIT_SECONDS, Failure, Remedy
from store.jobs.states import State, sources
from store.jobs.turns import NO_TURN
from store.tables import Job
from store.text import storable

_JOB = core(Job).c

_NO_LEASE: dict[str, Any] = {
    "lease_token": None,
    "lease_seconds": None,
    "lease_expires_at": None,
    "process_id": None,
    "phase": None,
}


@dataclass(frozen=True)
class Moved:
    """What a move returns of the row, as it is after it."""

    id: str
    kind: str
    owner: str
    queue: str
    state: State
    attempt: int
    restarts: int
    max_restarts: int
    version: int
    last_event: int
    pinned_torch_version: str | None
    elapsed_seconds: float | None
    """Of the time that counts towards the deadline; None before the first claim."""
    deadline_seconds: float | None


RETURNED = (
    _JOB.id,
    _JOB.kind,
    _JOB.owner,
    _JOB.queue,
    _JOB.state,
    _JOB.attempt,
    _JOB.restarts,
    _JOB.max_restarts,
    _JOB.version,
    _JOB.last_event,
    _JOB.pinned_torch_version,
    elapsed_seconds().label("elapsed_seconds"),
    _JOB.deadline_seconds,
)


def moved_of(row: Sequence[Any]) -> Moved:
    """A row of the columns `RETURNED`."""
    return Moved(*row)


def move(
    session: Session,
    job_id: str | ScalarSelect[str],
    target: State,
    say: Callable[[Moved], Entry],
    *guards: ColumnElement[bool],
    **values: Any,
) -> Moved | None:
    """Change the state of a job if it may and all guards hold, and say so in its log; None, and nothing, if not."""
    moved = move_all(session, target, say, _JOB.id == job_id, *guards, **values)
    return moved[0] if moved else None


def move_all(
    session: Session, target: State, say: Callable[[Moved], Entry], *which: ColumnElement[bool], **values: Any
) -> list[Moved]:
    """The same for every job of which all of `which` holds; those that may not make the move are left out."""
    return carry_out(session, movement(target, *which, **values), target, say)


def movement(target: State, *which: ColumnElement[bool], **values: Any) -> Update:
    """The statement of a move, for `carry_out`; one that is made often is worth keeping."""
    return (
        update(core(Job))
        .where(*which, still_in_state(*sources(target)))
        .values(
            state=target,
            version=_JOB.version + 1,
            last_event=_JOB.last_event + 1,
            **{**_consequences(target), **values},
        )
        .returning(*RETURNED)
    )


def carry_out(
    session: Session,
    statement: Update,
    target: State,
    say: Callable[[Moved], Entry],
    bound: Mapping[str, Any] | None = None,
) -> list[Moved]:
    """Run a `movement` to `target`, with what is bound in it, and do what follows from it."""
    moved = [moved_of(row) for row in session.execute(statement, bound)]
    eventlog.write(session, [Line(one.id, one.last_event, one.attempt, say(one)) for one in moved])
    if target is State.QUEUED:
        for queue, jobs in Counter(one.queue for one in moved).items():
            bells.hang(session, queue, jobs)
    return moved


def leave_running(
    session: Session,
    job_id: str,
    desired: str | None,
    restarts_left: bool,
    *guards: ColumnElement[bool],
    failure: Failure | None,
) -> Moved | None:
    """Move a locked running row on after its attempt ended early.

    A failure that another try would repeat is the end. Else what its owner asked for comes first; without a failure the
    attempt was handed back and does not count, with one its code says what follows (`store.jobs.failures`).
    """
    if failure is not None and failure.remedy is Remedy.FINAL:
        return fail(session, job_id, failure, *guards)
    if desired is not None:
        return _as_asked(session, job_id, desired, *guards, failure=failure)
    if failure is None:
        return move(session, job_id, State.QUEUED, _released, *guards)
    if failure.remedy is Remedy.WAIT:
        later = clock() + WAIT_SECONDS
        return move(session, job_id, State.QUEUED, _telling("waits", failure), *guards, not_before=later)
    if restarts_left:
        return move(session, job_id, State.QUEUED, _restarting(failure), *guards, restarts=_JOB.restarts + 1)
    return fail(session, job_id, failure, *guards)


def fail(session: Session, job_id: str, failure: Failure, *guards: ColumnElement[bool]) -> Moved | None:
    """Move to `failed` with its reason."""
    return move(
        session,
        job_id,
        State.FAILED,
        _telling("failed", failure),
        *guards,
        failure_code=storable(failure.code, WORD_CHARS),
        failure_message=storable(failure.message),
    )


def reason(failure: Failure | None) -> dict[str, Any]:
    """A failure as the data of a log line."""
    return {} if failure is None else {"code": failure.code, "message": failure.message}


def _as_asked(
    session: Session, job_id: str, desired: str, *guards: ColumnElement[bool], failure: Failure | None
) -> Moved | None:
    target = State.PAUSED if desired == "pause" else State.CANCELLED

    def say(moved: Moved) -> Entry:
        return Entry(target.value, f"As asked, when attempt {moved.attempt} ended.", reason(failure))

    return move(session, job_id, target, say, *guards, desired=None)


def _released(moved: Moved) -> Entry:
    return Entry("released", f"Attempt {moved.attempt} was handed back; it does not count as a restart.")


def _restarting(failure: Failure) -> Callable[[Moved], Entry]:
    return lambda moved: Entry(
        "restarted", f"Restart {moved.restarts} of {moved.max_restarts}: {failure.message}", reason(failure)
    )


def _telling(kind: str, failure: Failure) -> Callable[[Moved], Entry]:
    return lambda _moved: Entry(kind, failure.message, reason(failure))


def _consequences(target: State) -> dict[str, Any]:
    if target is State.RUNNING:
        return {"not_before": None}
    if target is State.QUEUED:
        return {**_NO_LEASE, "queued_at": clock(), "not_before": None, **_pause_is_over()}
    left = {**_NO_LEASE, "not_before": None, "turn": case((IS_QUEUED, NO_TURN), else_=_JOB.turn)}
    if target is State.PAUSED:
        return {**left, "paused_at": clock()}
    return {**left, **_pause_is_over(), "finished_at": clock(), "desired": None}


def _pause_is_over() -> dict[str, Any]:
    began = _JOB.first_claimed_at.is_not(None) & _JOB.paused_at.is_not(None)
    passed = case((began, clock() - _JOB.paused_at), else_=0.0)
    return {"paused_seconds": _JOB.paused_seconds + func.coalesce(passed, 0.0), "paused_at": None}
