"""State changes go along `ALLOWED` and nowhere else."""

from typing import Any

import pytest

from store import work
from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.eventlog import Entry
from store.jobs.moves import move
from store.jobs.states import ALLOWED, TERMINAL, State, actions, sources
from store.jobs.wishes import By


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


def test_from_an_end_there_is_no_way_but_into_the_queue() -> None:
    assert {state: ALLOWED[state] for state in TERMINAL} == {state: {State.QUEUED} for state in TERMINAL}


def test_success_is_for_ever_whatever_is_asked_of_an_experiment(lab: Any) -> None:
    experiment_id = lab.submit()
    lab.finish(lab.claim().lease, work.Succeeded("budget", {}))
    before = lab.get(experiment_id).version
    with lab.database.write() as session:
        for ask in (wishes.retry, wishes.resume):
            with pytest.raises(IllegalTransition):
                ask(session, experiment_id, By(None))
        assert wishes.retry_all(session, [experiment_id], By(None)) == 0
        assert wishes.resume_all(session, [experiment_id], By(None)) == 0
    assert lab.get(experiment_id).version == before


def test_sources_are_the_inverse_of_allowed() -> None:
    assert sources(State.QUEUED) == {State.RUNNING, State.PAUSED, *TERMINAL}
    assert sources(State.RUNNING) == {State.QUEUED}


def test_an_owner_can_cancel_before_the_end_and_delete_after_it() -> None:
    for state in State:
        assert ("delete" in actions(state)) == (state in TERMINAL)
        assert ("cancel" in actions(state)) == (state not in TERMINAL)
    assert {state for state in State if "retry" in actions(state)} == {State.FAILED, State.CANCELLED}
