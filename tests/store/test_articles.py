"""An article while its parts run: what is asked of it is asked of all of them, and nothing is left behind."""

from typing import Any

import pytest
from sqlalchemy import select

from bncore.events import MetricsBlock
from bncore.spec.study import load_study
from store import orphans, purging, studies, work
from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.states import TERMINAL, State
from store.studies import StudySubmission
from store.study_errors import NotExtensible, StudyNotFound
from store.tables import Job, Owner
from tests.store.test_races import at_once
from tests.store.test_studies import (
    GROWTH,
    ME,
    NONE,
    TINY,
    WHO,
    asking,
    finish,
    get,
    growth_of,
    run_all,
    submission,
    took,
    train,
    verdict,
)
from tests.store.test_study_races import tried

OTHER = {"claim": "scale-invariance", "scale": "tiny"}


@pytest.fixture(autouse=True)
def _an_owner(lab: Any) -> None:
    """Whose row is what those who ask at once wait for."""
    with lab.database.write() as session:
        session.add(Owner(id="own_1", name="one", stored_bytes=0, created_at=0.0))


def article(lab: Any) -> tuple[str, list[str]]:
    """Of two parts, and the parts."""
    spec, parts = load_study({"claim": "article", "scale": "tiny"}), [submission(TINY), submission(OTHER)]
    with lab.database.write() as session:
        whole = studies.submit(session, StudySubmission(spec, None, "f", parts), WHO).id
        return str(whole), [str(part.id) for part in studies.parts(session, whole)]


def under_way(lab: Any) -> tuple[str, list[str], Any]:
    """With its experiments queued, two of which have ended, and one that runs."""
    whole, parts = article(lab)
    for study_id in (*parts, whole):
        took(lab, study_id)
    train(lab, 2)
    return whole, parts, lab.claim()


def finished(lab: Any) -> tuple[str, list[str]]:
    whole, parts = article(lab)
    run_all(lab)
    return whole, parts


def said(lab: Any, whole: str) -> list[dict[str, Any]]:
    """Its verdicts without the ids of its parts."""
    return [{key: value for key, value in one.items() if key != "study"} for one in verdict(lab, whole).verdicts]


def states(lab: Any, *study_ids: str) -> set[State]:
    """Of the studies and of all their experiments."""
    found = {get(lab, study_id).standing for study_id in study_ids}
    with lab.database.read() as session:
        for study_id in study_ids:
            found |= set(studies.standing(session, study_id).experiments.counts)
    return found


def nothing_is_left(lab: Any) -> bool:
    with lab.database.write() as session:
        while purging.purge(session):
            pass
        assert orphans.find(session) == []
    found = lab.everything()
    return not any(found[table] for table in ("jobs", "studies", "study_jobs", "experiments", "files", "contents"))


def test_it_is_not_deleted_while_parts_run_and_gone_whole_when_they_were_cancelled(lab: Any) -> None:
    whole, parts, running = under_way(lab)
    before = lab.everything()
    with pytest.raises(IllegalTransition, match="ancel"):
        asking(lab, studies.delete, whole, ME)
    assert lab.everything() == before
    asking(lab, studies.cancel, whole, ME)
    assert lab.claim() is None
    # What runs ends when its worker hears of it; until then nothing can be deleted, and nothing is lost.
    with pytest.raises(IllegalTransition):
        asking(lab, studies.delete, whole, ME)
    finish(lab, running.lease, work.Cancelled())
    assert {get(lab, one).state for one in (whole, *parts)} == {State.CANCELLED}
    assert states(lab, whole, *parts) <= {*TERMINAL}
    asking(lab, studies.delete, whole, ME)
    for study_id in (whole, *parts):
        with pytest.raises(StudyNotFound):
            get(lab, study_id)
    with pytest.raises(StudyNotFound):
        asking(lab, studies.delete, whole, ME)
    assert lab.claim() is None
    assert nothing_is_left(lab)


def test_it_rests_with_all_of_its_parts_and_comes_to_the_same_verdicts(lab: Any) -> None:
    expected = said(lab, finished(lab)[0])
    whole, parts, running = under_way(lab)
    asking(lab, studies.pause, whole, ME)
    finish(lab, running.lease, work.Paused())
    assert lab.claim() is None
    assert states(lab, *parts) == {State.PAUSED, State.SUCCEEDED}
    asking(lab, studies.resume, whole, ME, NONE)
    run_all(lab)
    assert {get(lab, one).state for one in (whole, *parts)} == {State.SUCCEEDED}
    assert said(lab, whole) == expected


def test_what_is_tried_again_of_a_judged_part_is_ended_with_the_whole(lab: Any) -> None:
    """Its owner may try an experiment again by itself, while the part that it belongs to has been judged."""
    whole, parts = article(lab)
    for study_id in (*parts, whole):
        took(lab, study_id)
    train(lab, failing=1)
    run_all(lab)
    with lab.database.read() as session:
        (failed,) = session.scalars(select(Job.id).where(Job.state == State.FAILED))
    with lab.database.write() as session:
        wishes.retry(session, failed, ME)
    asking(lab, studies.cancel, whole, ME)
    assert lab.claim() is None
    asking(lab, studies.delete, whole, ME)
    assert nothing_is_left(lab)


def test_of_two_extensions_of_a_part_at_once_one_is_made(lab: Any) -> None:
    whole, parts = finished(lab)
    came = at_once(2, lambda _: tried(lambda: asking(lab, studies.extend, parts[0], 2, ME, NONE), NotExtensible))
    assert sum(isinstance(one, NotExtensible) for one in came) == 1
    run_all(lab)
    assert (get(lab, parts[0]).extensions, get(lab, parts[1]).extensions) == ([2], [])
    assert verdict(lab, whole).taken[f"{TINY['claim']}/plain"] == [6, 8]


def test_a_part_that_is_extended_while_the_whole_is_deleted_goes_with_it_or_goes_on(lab: Any) -> None:
    whole, parts = finished(lab)
    refusals = (NotExtensible, IllegalTransition, StudyNotFound)
    acts = [
        lambda: asking(lab, studies.delete, whole, ME),
        lambda: asking(lab, studies.extend, parts[0], 2, ME, NONE),
    ]
    deleted, extended = at_once(2, lambda number: tried(acts[number], *refusals))
    assert (deleted is None) != (extended is None)
    run_all(lab)
    if deleted is None:
        assert nothing_is_left(lab)
    else:
        assert {get(lab, one).state for one in (whole, *parts)} == {State.SUCCEEDED}


def test_an_experiment_that_ends_after_its_article_was_deleted_leaves_nothing(lab: Any) -> None:
    whole, _, running = under_way(lab)
    asking(lab, studies.cancel, whole, ME)
    block = MetricsBlock(first_step=0, count=1, values={GROWTH: [growth_of(running.spec)]})
    lab.append(running.lease, block)
    lab.checkpoint(running.lease, "last", 0)
    finish(lab, running.lease, work.Succeeded("budget", {"seconds": 1.0}))
    asking(lab, studies.delete, whole, ME)
    assert nothing_is_left(lab)
