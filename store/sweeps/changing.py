"""What owners ask of all experiments of a sweep at once.

Invariant: all of them in one transaction, locked in the one order in which all who change many jobs lock them.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from store import experiments, owners, queueing
from store.columns import core
from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.conditions import RESTS, WAS_PRUNED
from store.jobs.states import TERMINAL, State, actions
from store.jobs.wishes import By, Wish
from store.queueing import ROWS_A_STATEMENT, Limits
from store.sweeps import rungs, searching
from store.sweeps.locking import locked
from store.sweeps.standing import standing, state_of
from store.tables import Sweep

_LIVING = frozenset(State) - TERMINAL


def cancel(session: Session, sweep: Sweep, by: By) -> int:
    """End all that have not ended; how many were ended or asked to. No more trials of a search come, and no more is
    pruned."""
    searching.move(session, sweep.id, ["open", "paused"], "stopped")
    rungs.move(session, sweep.id, ["open", "paused"], "stopped")
    return _ask(session, sweep, "cancel", _LIVING, by)


def pause(session: Session, sweep: Sweep, by: By) -> int:
    """Let all rest that wait or run; how many do, or were asked to. Nothing is pruned meanwhile."""
    searching.move(session, sweep.id, ["open"], "paused")
    rungs.move(session, sweep.id, ["open"], "paused")
    return _ask(session, sweep, "pause", {State.QUEUED, State.RUNNING}, by)


def resume(session: Session, sweep: Sweep, by: By, limits: Limits) -> int:
    """Queue all again that were paused, and take back pauses that have not come yet; how many. What rests at a rung
    waits for that. Raises `QuotaExceeded`."""
    owners.take_turn(session, sweep.owner)
    searching.move(session, sweep.id, ["paused"], "open")
    rungs.move(session, sweep.id, ["paused"], "open")
    those = locked(session, sweep.id, {State.PAUSED, State.RUNNING}, ~RESTS)
    return queueing.resume_all(session, sweep.owner, those, by, limits)


def retry(session: Session, sweep: Sweep, by: By, limits: Limits, *, cancelled: bool = False) -> int:
    """Queue all that failed again, and those that were cancelled where that is asked, but none that was pruned; how
    many. Raises `QuotaExceeded`."""
    owners.take_turn(session, sweep.owner)
    searching.move(session, sweep.id, ["failed", "stopped"] if cancelled else ["failed"], "open")
    if cancelled:
        rungs.move(session, sweep.id, ["stopped"], "open")
    states = {State.FAILED, State.CANCELLED} if cancelled else {State.FAILED}
    return queueing.retry_all(session, sweep.owner, locked(session, sweep.id, states, ~WAS_PRUNED), by, limits)


def delete(session: Session, sweep: Sweep, by: By) -> None:
    """Hide all of it, for good. Raises `IllegalTransition` while any of its experiments has not ended."""
    state = state_of(sweep, standing(session, sweep.id))
    if state not in TERMINAL or locked(session, sweep.id, _LIVING):
        raise IllegalTransition(state, actions(state), wishes.CANCEL_FIRST)
    _in_batches(locked(session, sweep.id, TERMINAL), lambda some: experiments.delete_these(session, some, by))
    table = core(Sweep)
    session.execute(delete_from(table).where(table.c.id == sweep.id))


def _ask(session: Session, sweep: Sweep, wish: Wish, states: Collection[State], by: By) -> int:
    return _in_batches(locked(session, sweep.id, states), lambda some: wishes.ask_all(session, some, wish, by))


def _in_batches(ids: Sequence[str], change: Callable[[Sequence[str]], int]) -> int:
    return sum(change(some) for some in _batches(ids))


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_A_STATEMENT):
        yield ids[start : start + ROWS_A_STATEMENT]
