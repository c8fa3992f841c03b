"""Conditions on jobs that more than one statement uses.

States are literals here, as in the partial indexes: with a bound value a database cannot know that an index serves.
"""

from typing import Any

from sqlalchemy import Boolean, ColumnElement, func, literal_column

from store.columns import core
from store.database import clock
from store.jobs.failures import PRUNED, QUOTA, WAIT_SECONDS
from store.jobs.states import RESTING, TERMINAL, State
from store.tables import Job

_JOB = core(Job).c


def in_state(*states: State) -> ColumnElement[bool]:
    """Whether a job is in one of the states."""
    literals: list[ColumnElement[Any]] = [literal_column(f"'{state.value}'") for state in sorted(states)]
    return _JOB.state == literals[0] if len(literals) == 1 else _JOB.state.in_(literals)


def still_in_state(*states: State) -> ColumnElement[bool]:
    """The same of jobs that are named already. Said so that no index serves it: a planner without statistics would read
    all that wait rather than enter by an id."""
    literals = ", ".join(f"'{state.value}'" for state in sorted(states))
    return literal_column(f"(jobs.state || '' IN ({literals}))", Boolean)


CLAIM_ORDER = (_JOB.priority.desc(), _JOB.turn, _JOB.created_at, _JOB.id)
IS_QUEUED = in_state(State.QUEUED)
IS_RUNNING = in_state(State.RUNNING)
IS_OVER = in_state(*TERMINAL)
WAS_CLAIMED: ColumnElement[bool] = _JOB.state != literal_column("'queued'")
"""Or was turned away while it waited, which its turn says (`store.jobs.turns`)."""
RESTS: ColumnElement[bool] = func.coalesce(_JOB.phase, "") == RESTING
"""Of a paused job: that no owner has paused it."""
WAS_PRUNED: ColumnElement[bool] = func.coalesce(_JOB.failure_code, "") == PRUNED
LACKS_ROOM: ColumnElement[bool] = still_in_state(State.FAILED) & (func.coalesce(_JOB.failure_code, "") == QUOTA)
"""Of a job that is named already: its owner has to make room for it, and to retry it."""
IS_VISIBLE: ColumnElement[bool] = _JOB.deleted_at.is_(None)


def is_due() -> ColumnElement[bool]:
    """Whether a queued job may be claimed by now.

    A rest that ends later than one could that begins right now was written before the clock was set back.
    """
    rests = _JOB.not_before.between(clock(), clock() + WAIT_SECONDS)
    return _JOB.not_before.is_(None) | ~rests


def elapsed_seconds() -> ColumnElement[float]:
    """How much of its deadline a job that is not paused has used; null before its first claim."""
    return clock() - _JOB.first_claimed_at - _JOB.paused_seconds


def owned_by(owner: str | None) -> tuple[ColumnElement[bool], ...]:
    """The condition under which a job that is named by its id can be seen: None sees those of every owner.

    Said so that no index serves it: with many ids a planner without statistics would rather enter by the owner.
    """
    there = func.coalesce(_JOB.deleted_at, 0.0) == 0.0
    return (there,) if owner is None else (there, _JOB.owner.concat("") == owner)
