"""The states of an experiment and the only ways between them.

Invariant: the state column changes only along `ALLOWED`, inside the UPDATE that checks where it comes from
(`store.transitions.move`).
"""

from enum import StrEnum


class State(StrEnum):
    """Where an experiment is; treat a word you do not know as not terminal."""

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
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


def sources(target: State) -> frozenset[State]:
    """The states from which `target` can be reached in one move."""
    return frozenset(state for state, targets in ALLOWED.items() if target in targets)


def actions(state: State) -> tuple[str, ...]:
    """What an owner can ask of an experiment in this state."""
    return ("delete",) if state in TERMINAL else ("cancel",)
