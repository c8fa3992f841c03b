"""What an owner can ask of jobs: cancel, kill, pause, resume, retry, delete.

Invariant: of a job that nobody runs a wish is done at once; of a running one it is written down for its worker, which
hears it with its next renewal. A repeat changes nothing. Who asked is in the log, by the key's id.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, bindparam, select, update
from sqlalchemy.orm import Session

from store.columns import core, one_of
from store.database import clock
from store.errors import IllegalTransition, Pruned, VersionMismatch
from store.jobs import eventlog
from store.jobs.conditions import IS_OVER, IS_RUNNING, RESTS, WAS_PRUNED, in_state, owned_by, still_in_state
from store.jobs.eventlog import Entry, Line
from store.jobs.moves import Moved, move, move_all
from store.jobs.states import TERMINAL, State, actions
from store.jobs.turns import NO_TURN, next_turn
from store.missing import job_not_found
from store.tables import Job

_JOB = core(Job).c

Wish = Literal["cancel", "pause", "kill"]

_RETRIED = "Queued again, to go on from its last checkpoint."
CANCEL_FIRST = "cancel it first"
"""What has not ended cannot be deleted."""
_TAKEN_BACK = "It goes on, unless its worker has begun to stop."
_BATCH = 500
_ANEW: dict[str, Any] = {
    "failure_code": None,
    "failure_message": None,
    "finished_at": None,
    "first_claimed_at": None,
    "paused_seconds": 0.0,
    "restarts": 0,
}

_ENDS_AS: dict[Wish, State] = {"cancel": State.CANCELLED, "kill": State.CANCELLED, "pause": State.PAUSED}
# A wish may be made stronger and not weaker: whoever paused may cancel, whoever cancelled may kill.
_GIVE_TURN = update(core(Job)).where(_JOB.id == bindparam("of_job")).values(turn=bindparam("to"))
_WEAKER: dict[Wish, tuple[Wish, ...]] = {"pause": (), "cancel": ("pause",), "kill": ("pause", "cancel")}


@dataclass(frozen=True)
class By:
    """Who asks, and of what: the owner whose jobs are meant (None: anybody's), the key that was shown, and the versions
    of a job of which the wish is true (None: any)."""

    owner: str | None
    key_id: str | None = None
    versions: frozenset[int] | None = None

    def may(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions on a job."""
        guards = owned_by(self.owner)
        return guards if self.versions is None else (*guards, _JOB.version.in_(self.versions))

    def entry(self, kind: str, message: str) -> Entry:
        """A line of the log that says who."""
        return Entry(kind, message, {} if self.key_id is None else {"key_id": self.key_id})


def ask(session: Session, job_id: str, wish: Wish, by: By) -> None:
    """End or pause a job: at once when nothing runs, else as a wish that its worker hears.

    What is asked already, or done, changes nothing; nor does `cancel` or `kill` of a job at its end. Raises
    `JobNotFound`, `VersionMismatch`, or `IllegalTransition` for a pause after the end.
    """
    if ask_all(session, [job_id], wish, by):
        return
    state = _state(session, job_id, by)
    if state in (State.QUEUED, State.PAUSED) and state is not _ENDS_AS[wish]:
        # It became idle between the two statements.
        ask(session, job_id, wish, by)
    elif wish == "pause" and state in TERMINAL:
        raise IllegalTransition(state, actions(state))


def ask_all(session: Session, job_ids: Collection[str], wish: Wish, by: By) -> int:
    """The same of many jobs; of how many it changed anything. Those that cannot be asked are left out."""
    if not job_ids:
        return 0
    these = (one_of(_JOB.id, job_ids), *by.may())
    target = _ENDS_AS[wish]
    message = "Paused before it ran on." if target is State.PAUSED else "Cancelled before it ran on."
    done = move_all(session, target, lambda _: by.entry(target.value, message), *these, ~IS_RUNNING)
    statement = (
        update(core(Job))
        .where(*these, IS_RUNNING, _JOB.desired.is_(None) | _JOB.desired.in_(_WEAKER[wish]))
        .values(desired=wish, version=_JOB.version + 1, last_event=_JOB.last_event + 1)
        .returning(_JOB.id, _JOB.last_event, _JOB.attempt)
    )
    asked = session.execute(statement).all()
    entry = by.entry(f"{wish}_requested", "The worker will be told.")
    eventlog.write(session, [Line(job_id, number, attempt, entry) for job_id, number, attempt in asked])
    return len(done) + len(asked) + (_hold(session, these, by) if wish == "pause" else 0)


def resume(session: Session, job_id: str, by: By) -> None:
    """Queue a job again that its owner paused; of one that is about to be paused, take the wish back. Else nothing
    changes.

    Raises `JobNotFound`, `VersionMismatch`, or `IllegalTransition` at its end.
    """
    entry = by.entry("resumed", "Queued again.")
    turn = _turn(session, job_id)
    paused = (in_state(State.PAUSED), ~RESTS)
    if move(session, job_id, State.QUEUED, lambda _: entry, *by.may(), *paused, turn=turn) is not None:
        return
    statement = (
        update(core(Job))
        .where(_JOB.id == job_id, *by.may(), IS_RUNNING, _JOB.desired == "pause")
        .values(desired=None)
        .returning(_JOB.attempt)
    )
    attempt = session.execute(statement).scalar_one_or_none()
    if attempt is not None:
        entry = by.entry("resumed", _TAKEN_BACK)
        eventlog.append(session, job_id, attempt, [entry])
        return
    state = _state(session, job_id, by)
    if state in TERMINAL:
        raise IllegalTransition(state, actions(state))


def retry(session: Session, job_id: str, by: By) -> None:
    """Queue a failed or cancelled job again: its next attempt, with restarts and deadline counted anew.

    Raises `JobNotFound`, `VersionMismatch`, `Pruned`, or `IllegalTransition` in any other state.
    """
    entry = by.entry("retried", _RETRIED)
    ended = (in_state(State.FAILED, State.CANCELLED), ~WAS_PRUNED)
    turn = _turn(session, job_id)
    if move(session, job_id, State.QUEUED, lambda _: entry, *by.may(), *ended, **_ANEW, turn=turn) is None:
        state = _state(session, job_id, by)
        _refuse_pruned(session, job_id)
        raise IllegalTransition(state, actions(state))


def reopen(session: Session, job_id: str, by: By, message: str) -> bool:
    """Queue a job that has succeeded again: what it found stands, and there is more to do. Whether it had succeeded."""
    entry, turn = by.entry("reopened", message), _turn(session, job_id)
    succeeded = still_in_state(State.SUCCEEDED)
    return move(session, job_id, State.QUEUED, lambda _: entry, *by.may(), succeeded, **_ANEW, turn=turn) is not None


def resume_all(session: Session, job_ids: Sequence[str], by: By) -> int:
    """`resume` of many jobs of one owner, queue and priority, in this order; of how many it changed anything."""
    if not job_ids:
        return 0
    entry = by.entry("resumed", "Queued again.")
    resumed = _queue_again(session, job_ids, lambda _: entry, by, (State.PAUSED,), ~RESTS)
    statement = (
        update(core(Job))
        .where(one_of(_JOB.id, job_ids), *by.may(), still_in_state(State.RUNNING), _JOB.desired == "pause")
        .values(desired=None, version=_JOB.version + 1, last_event=_JOB.last_event + 1)
        .returning(_JOB.id, _JOB.last_event, _JOB.attempt)
    )
    spared = session.execute(statement).all()
    entry = by.entry("resumed", _TAKEN_BACK)
    eventlog.write(session, [Line(job_id, number, attempt, entry) for job_id, number, attempt in spared])
    return resumed + len(spared)


def retry_all(session: Session, job_ids: Sequence[str], by: By) -> int:
    """`retry` of many jobs of one owner, queue and priority, in this order; how many were queued."""
    entry, ended = by.entry("retried", _RETRIED), (State.FAILED, State.CANCELLED)
    return _queue_again(session, job_ids, lambda _: entry, by, ended, ~WAS_PRUNED, **_ANEW)


def go_on(session: Session, job_ids: Sequence[str], say: Callable[[Moved], Entry]) -> int:
    """Queue those of one owner, queue and priority that rest without having been asked to, in this order; how many."""
    return _queue_again(session, job_ids, say, By(None), (State.PAUSED,), RESTS)


def delete(session: Session, job_id: str, by: By) -> None:
    """Hide a job that has ended, for good. Raises `JobNotFound`, `VersionMismatch`, or `IllegalTransition`."""
    if not delete_all(session, [job_id], by):
        state = _state(session, job_id, by)
        raise IllegalTransition(state, actions(state), CANCEL_FIRST)


def delete_all(session: Session, job_ids: Collection[str], by: By) -> list[str]:
    """Hide those of many jobs that have ended; which ones."""
    statement = (
        update(core(Job))
        .where(one_of(_JOB.id, job_ids), *by.may(), IS_OVER)
        .values(deleted_at=clock(), version=_JOB.version + 1, last_event=_JOB.last_event + 1)
        .returning(_JOB.id, _JOB.last_event, _JOB.attempt)
    )
    gone = session.execute(statement).all()
    entry = by.entry("deleted", "Its owner sees it no more.")
    eventlog.write(session, [Line(job_id, number, attempt, entry) for job_id, number, attempt in gone])
    return [job_id for job_id, *_ in gone]


def _turn(session: Session, job_id: str) -> int:
    """A job that is queued again comes after those that its owner has in the queue."""
    place = session.execute(select(_JOB.owner, _JOB.queue, _JOB.priority).where(_JOB.id == job_id)).one_or_none()
    return NO_TURN if place is None else next_turn(session, *place)[0]


def _hold(session: Session, these: Sequence[ColumnElement[bool]], by: By) -> int:
    """Of what rests already, make it its owner's wish: nothing but its owner lets it go on then."""
    statement = (
        update(core(Job))
        .where(*these, still_in_state(State.PAUSED), RESTS)
        .values(phase=None, version=_JOB.version + 1, last_event=_JOB.last_event + 1)
        .returning(_JOB.id, _JOB.last_event, _JOB.attempt)
    )
    held = session.execute(statement).all()
    entry = by.entry("paused", "It rests already, and does not go on by itself now.")
    eventlog.write(session, [Line(job_id, number, attempt, entry) for job_id, number, attempt in held])
    return len(held)


def _refuse_pruned(session: Session, job_id: str) -> None:
    """Raises `Pruned` where that is why it ended."""
    message = session.execute(select(_JOB.failure_message).where(_JOB.id == job_id, WAS_PRUNED)).scalar_one_or_none()
    if message is not None:
        raise Pruned(message)


def _queue_again(
    session: Session,
    job_ids: Sequence[str],
    say: Callable[[Moved], Entry],
    by: By,
    states: Collection[State],
    *guards: ColumnElement[bool],
    **values: Any,
) -> int:
    """Queue those in some states, each with a turn of its own, so that other owners' come between them."""
    if not job_ids:
        return 0
    turn = _turn(session, job_ids[0])
    moved: list[str] = []
    for start in range(0, len(job_ids), _BATCH):
        some = job_ids[start : start + _BATCH]
        these = (one_of(_JOB.id, some), *by.may(), still_in_state(*states), *guards)
        queued = {one.id for one in move_all(session, State.QUEUED, say, *these, **values, turn=turn)}
        moved += [job_id for job_id in some if job_id in queued]
    if moved:
        turns = [{"of_job": job_id, "to": turn + place} for place, job_id in enumerate(moved)]
        session.connection().execute(_GIVE_TURN, turns)
    return len(moved)


def _state(session: Session, job_id: str, by: By) -> State:
    found = session.execute(
        select(_JOB.state, _JOB.version).where(_JOB.id == job_id, *owned_by(by.owner))
    ).one_or_none()
    if found is None:
        raise job_not_found(job_id)
    if by.versions is not None and found.version not in by.versions:
        raise VersionMismatch(found.version)
    return State(found.state)
