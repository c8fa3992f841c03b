"""Two things at once are asked of a study: whoever was first, they end in one state, on both databases."""

from functools import partial
from typing import Any

import pytest

from store import studies
from store.errors import IllegalTransition, QuotaExceeded
from store.idempotency import Scope
from store.jobs.states import State
from store.queueing import Limits
from store.study_errors import NotExtensible, StudyNotFound
from store.tables import Owner
from tests.store.test_races import at_once
from tests.store.test_studies import (
    ME,
    NONE,
    WHO,
    asking,
    finish,
    get,
    judged,
    outcome,
    refused,
    run_all,
    submission,
    submit,
    took,
    train,
    verdict,
)


@pytest.fixture(autouse=True)
def _an_owner(lab: Any) -> None:
    """Whose row is what those who ask at once wait for."""
    with lab.database.write() as session:
        session.add(Owner(id="own_1", name="one", stored_bytes=0, created_at=0.0))


def tried(act: Any, *refusals: type[Exception]) -> Any:
    """What came of it: a refusal that it may meet is an answer too."""
    try:
        return act()
    except refusals as refusal:
        return refusal


def test_of_two_extensions_at_once_all_that_fit_are_made_and_no_seed_twice(lab: Any) -> None:
    study_id = submit(lab)
    judged(lab, study_id)
    # Six seeds of at most twelve: of four extensions by two, one at a time can be while nothing is being judged.
    said = at_once(4, lambda _: tried(lambda: asking(lab, studies.extend, study_id, 2, ME, NONE), NotExtensible))
    assert sum(isinstance(one, NotExtensible) for one in said) == 3
    assert get(lab, study_id).extensions == [2]
    run_all(lab)
    assert verdict(lab, study_id).taken["plain"] == [6, 8]
    assert sorted({run["seed"] for run in verdict(lab, study_id).runs}) == list(range(8))


def test_one_request_by_twenty_clients_at_once_is_one_study(lab: Any) -> None:
    scope, made = Scope("own_1", "POST", "/v1/studies", "k"), submission()

    def post(_number: int) -> str:
        with lab.database.write() as session:
            return str(studies.submit_once(session, scope, made, WHO, NONE)[0].id)

    assert len(set(at_once(20, post))) == 1
    with lab.database.read() as session:
        assert len(studies.page(session, "own_1").rows) == 1


def _one_of(acts: list[Any], number: int) -> Any:
    return acts[number]()


@pytest.mark.parametrize("wish", ["pause", "cancel"])
def test_a_wish_at_the_moment_a_stage_is_stored_holds_for_all_of_it(lab: Any, wish: str) -> None:
    ask = {"pause": studies.pause, "cancel": studies.cancel}[wish]
    for _ in range(5):
        study_id = submit(lab)
        claim = lab.claim()
        stage = outcome(lab, study_id)
        acts = [partial(finish, lab, claim.lease, stage), partial(asking, lab, ask, study_id, ME)]
        at_once(2, partial(_one_of, acts))
        assert lab.claim() is None
        wanted = State.PAUSED if wish == "pause" else State.CANCELLED
        with lab.database.read() as session:
            assert set(studies.standing(session, study_id).experiments.counts) <= {wanted}
        with lab.database.write() as session:
            assert studies.due(session) == []
        if wish == "pause":
            asking(lab, studies.resume, study_id, ME, NONE)
            run_all(lab)
            assert get(lab, study_id).state is State.SUCCEEDED
        else:
            # Its wish may have come before the step, which then ends it, or behind, when it rests.
            assert get(lab, study_id).standing is State.CANCELLED


def test_what_is_asked_again_while_it_is_judged_is_judged_once_more_or_refused(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab)
    claim = lab.claim()
    verdicts = outcome(lab, study_id)

    def extend() -> Any:
        return tried(lambda: asking(lab, studies.extend, study_id, 2, ME, NONE), NotExtensible)

    _, said = at_once(2, lambda number: extend() if number else finish(lab, claim.lease, verdicts))
    run_all(lab)
    seeds = 6 if isinstance(said, NotExtensible) else 8
    assert (get(lab, study_id).state, get(lab, study_id).seeds) == (State.SUCCEEDED, seeds)
    assert verdict(lab, study_id).taken["plain"] == [6, 8][: 1 + (seeds == 8)]


def test_a_study_that_is_deleted_and_extended_at_once_is_gone_or_goes_on_whole(lab: Any) -> None:
    study_id = submit(lab)
    judged(lab, study_id)
    refusals = (NotExtensible, IllegalTransition, StudyNotFound)
    acts = [
        lambda: asking(lab, studies.delete, study_id, ME),
        lambda: asking(lab, studies.extend, study_id, 2, ME, NONE),
    ]
    deleted, extended = at_once(2, lambda number: tried(acts[number], *refusals))
    assert (deleted is None) != (extended is None)
    run_all(lab)
    if extended is None:
        assert verdict(lab, study_id).taken["plain"] == [6, 8]
    else:
        with lab.database.read() as session, pytest.raises(StudyNotFound):
            studies.get(session, study_id)
        assert lab.claim() is None


def test_two_studies_whose_stages_do_not_both_fit_the_queue_take_turns(lab: Any) -> None:
    room = Limits(queued_jobs=12)
    # Two stages of twelve, and room for twelve: whoever is first is whole, and the other waits.
    ids = [submit(lab), submit(lab)]
    claims = [lab.claim(), lab.claim()]
    stages = [outcome(lab, claim.lease.job_id, room) for claim in claims]

    def end(number: int) -> Any:
        return tried(lambda: finish(lab, claims[number].lease, stages[number]), QuotaExceeded)

    said = at_once(2, end)
    late = [number for number in range(2) if isinstance(said[number], QuotaExceeded)]
    assert len(late) == 1
    assert finish(lab, claims[late[0]].lease, refused(said[late[0]], stages[late[0]])).state is State.QUEUED
    assert len(lab.everything()["study_jobs"]) == 12
    train(lab)
    lab.jump(31)
    run_all(lab)
    assert [get(lab, one).state for one in ids] == [State.SUCCEEDED] * 2
