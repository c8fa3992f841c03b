"""The states of a job and the only ways between them.

Invariant: the state column changes only along `ALLOWED`, inside the UPDATE that checks where it comes from
(`store.jobs.moves.move`).
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job is; treat a word you do not know as not terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

ALLOWED: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.PAUSED, State.QUEUED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    # Of a study alone, which more seeds or a repaired run make it judge again.
    State.SUCCEEDED: frozenset({State.QUEUED}),
    # By `retry` alone: the same job, its next attempt, from its last checkpoint.
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}

RESTING = "resting"
"""The phase of a paused job that no owner has paused: it goes on when that is decided which it waits for."""

_ACTIONS: dict[State, tuple[str, ...]] = {
    State.QUEUED: ("cancel", "pause"),
    State.RUNNING: ("cancel", "kill", "pause"),
    State.PAUSED: ("cancel", "resume"),
    State.SUCCEEDED: ("delete",),
    State.FAILED: ("delete", "retry"),
    State.CANCELLED: ("delete", "retry"),
}


def sources(target: State) -> frozenset[State]:
    """The states from which `target` can be reached in one move."""
    return frozenset(state for state, targets in ALLOWED.items() if target in targets)


def actions(state: State) -> tuple[str, ...]:
    """What an owner can ask of a job in this state."""
    return _ACTIONS[state]
