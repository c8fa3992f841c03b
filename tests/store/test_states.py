"""State changes go along `ALLOWED` and nowhere else."""

from typing import Any

import pytest

from store.jobs.eventlog import Entry
from store.jobs.moves import move
from store.jobs.states import ALLOWED, TERMINAL, State, actions, sources


@pytest.mark.parametrize("target", list(State))
def test_a_move_is_possible_exactly_from_the_allowed_states(lab: Any, target: State) -> None:
    experiment_id = lab.submit()
    for state in State:
        lab.change(experiment_id, state=state)
        before = lab.everything()
        with lab.database.write() as session:
            moved = move(session, experiment_id, target, lambda _: Entry("moved", "Moved."))
        if target in ALLOWED[state]:
            assert moved is not None
            assert moved.state is target
        else:
            assert moved is None
            assert lab.everything() == before


def test_success_is_for_ever_and_a_retry_alone_leads_out_of_another_end() -> None:
    assert ALLOWED[State.SUCCEEDED] == frozenset()
    assert {state: ALLOWED[state] for state in TERMINAL - {State.SUCCEEDED}} == {
        State.FAILED: {State.QUEUED},
        State.CANCELLED: {State.QUEUED},
    }


def test_sources_are_the_inverse_of_allowed() -> None:
    assert sources(State.QUEUED) == {State.RUNNING, State.PAUSED, State.FAILED, State.CANCELLED}
    assert sources(State.RUNNING) == {State.QUEUED}


def test_an_owner_can_cancel_before_the_end_and_delete_after_it() -> None:
    for state in State:
        assert ("delete" in actions(state)) == (state in TERMINAL)
        assert ("cancel" in actions(state)) == (state not in TERMINAL)
    assert {state for state in State if "retry" in actions(state)} == {State.FAILED, State.CANCELLED}
