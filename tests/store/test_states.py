"""State changes go along `ALLOWED` and nowhere else."""

from typing import Any

import pytest

from store.jobs.moves import move
from store.jobs.states import ALLOWED, TERMINAL, State, actions, sources


@pytest.mark.parametrize("target", list(State))
def test_a_move_is_possible_exactly_from_the_allowed_states(lab: Any, target: State) -> None:
    experiment_id = lab.submit()
    for state in State:
        lab.change(experiment_id, state=state)
        before = lab.everything()
        with lab.database.write() as session:
            moved = move(session, experiment_id, target)
        if target in ALLOWED[state]:
            assert moved is not None
            assert moved.state is target
        else:
            assert moved is None
            assert lab.everything() == before


def test_nothing_leads_out_of_a_terminal_state() -> None:
    assert {state for state in State if not ALLOWED[state]} == TERMINAL


def test_sources_are_the_inverse_of_allowed() -> None:
    assert sources(State.QUEUED) == {State.RUNNING, State.PAUSED}
    assert sources(State.RUNNING) == {State.QUEUED}


def test_an_owner_can_cancel_before_the_end_and_delete_after_it() -> None:
    assert {state: actions(state) for state in State} == {
        state: ("delete",) if state in TERMINAL else ("cancel",) for state in State
    }
