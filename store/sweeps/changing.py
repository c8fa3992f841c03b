"""What owners ask of all experiments of a sweep at once.

Invariant: all of them in one transaction, locked in the one order in which all who change many jobs lock them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.orm import Session

from store import experiments, queueing
from store.columns import core
from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import TERMINAL, State, actions
from store.jobs.wishes import By, Wish
from store.queueing import ROWS_A_STATEMENT, Limits
from store.sweeps import searching
from store.sweeps.standing import standing, state_of
from store.tables import Job, Sweep, SweepExperiment

_JOB, _MEMBER = core(Job).c, core(SweepExperiment).c
_LIVING = frozenset(State) - TERMINAL


def cancel(session: Session, sweep: Sweep, by: By) -> int:
    """End all that have not ended; how many were ended or asked to. No more trials of a search come."""
    searching.move(session, sweep.id, ["open", "paused"], "stopped")
    return _ask(session, sweep, "cancel", _LIVING, by)


def pause(session: Session, sweep: Sweep, by: By) -> int:
    """Let all rest that wait or run; how many do, or were asked to."""
    searching.move(session, sweep.id, ["open"], "paused")
    return _ask(session, sweep, "pause", {State.QUEUED, State.RUNNING}, by)


def resume(session: Session, sweep: Sweep, by: By, limits: Limits) -> int:
    """Queue all that rest again, and take back pauses that have not come yet; how many. Raises `QuotaExceeded`."""
    searching.move(session, sweep.id, ["paused"], "open")
    return queueing.resume_all(session, sweep.owner, _those(session, sweep, {State.PAUSED, State.RUNNING}), by, limits)


def retry(session: Session, sweep: Sweep, by: By, limits: Limits, *, cancelled: bool = False) -> int:
    """Queue all that failed again, and those that were cancelled where that is asked; how many. Raises
    `QuotaExceeded`."""
    searching.move(session, sweep.id, ["failed", "stopped"] if cancelled else ["failed"], "open")
    states = {State.FAILED, State.CANCELLED} if cancelled else {State.FAILED}
    return queueing.retry_all(session, sweep.owner, _those(session, sweep, states), by, limits)


def delete(session: Session, sweep: Sweep, by: By) -> None:
    """Hide all of it, for good. Raises `IllegalTransition` while any of its experiments has not ended."""
    state = state_of(sweep, standing(session, sweep.id))
    if state not in TERMINAL or _those(session, sweep, _LIVING):
        raise IllegalTransition(state, actions(state), wishes.CANCEL_FIRST)
    _in_batches(_those(session, sweep, TERMINAL), lambda some: experiments.delete_these(session, some, by))
    table = core(Sweep)
    session.execute(delete_from(table).where(table.c.id == sweep.id))


def _ask(session: Session, sweep: Sweep, wish: Wish, states: Collection[State], by: By) -> int:
    return _in_batches(_those(session, sweep, states), lambda some: wishes.ask_all(session, some, wish, by))


def _those(session: Session, sweep: Sweep, states: Collection[State]) -> list[str]:
    """Locked until the transaction ends; on SQLite it has all of the database."""
    statement = (
        select(_JOB.id)
        .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
        .where(_MEMBER.sweep_id == sweep.id, *owned_by(None), still_in_state(*states))
        .order_by(_JOB.id)
        .with_for_update(key_share=True, of=core(Job))
    )
    return list(session.execute(statement).scalars())


def _in_batches(ids: Sequence[str], change: Callable[[Sequence[str]], int]) -> int:
    return sum(change(some) for some in _batches(ids))


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_A_STATEMENT):
        yield ids[start : start + ROWS_A_STATEMENT]
