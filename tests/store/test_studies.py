"""Studies in the store: taken step by step by hand, with the functions that workers use, on both databases."""

import threading
from typing import Any

import pytest
from sqlalchemy import select

from bncore.events import MetricsBlock
from bncore.spec.study import load_study
from bncore.studies.asking import checked
from bncore.studies.stepping import step
from store import experiments, migrate, orphans, purging, queueing, studies, work
from store.errors import IdempotencyConflict, IllegalTransition, QuotaExceeded
from store.experiments import Filters
from store.idempotency import Scope
from store.jobs import reaper, wishes
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits, Submitter
from store.studies import StudySubmission, working
from store.study_errors import InStudy, NotExtensible, StudyNotFound
from store.tables import Job, StudyJob
from worker.studying import outcome_of, refused

ME, WHO = By("own_1", "key_1"), Submitter("own_1", "cpu", "key_1")
GROWTH = "diagnostics/gradient_norms/growth"
TINY = {"claim": "gradients-explode-with-depth", "scale": "tiny"}
NONE = Limits()


def submission(asked: Any = None) -> StudySubmission:
    spec, one = checked(load_study(asked or TINY), lambda document: document)
    return StudySubmission(spec, one, studies.request_fingerprint(spec))


def submit(lab: Any, asked: Any = None, limits: Limits = NONE) -> str:
    made = submission(asked)
    with lab.database.write() as session:
        return str(studies.submit(session, made, WHO, limits).id)


def get(lab: Any, study_id: str) -> Any:
    with lab.database.read() as session:
        return studies.get(session, study_id)


def asking(lab: Any, call: Any, study_id: str, *arguments: Any, **named: Any) -> Any:
    with lab.database.write() as session:
        return call(session, studies.get(session, study_id), *arguments, **named)


def took(lab: Any, study_id: str, claim: Any = None, limits: Limits = NONE) -> Any:
    """The job as a step of the study leaves it."""
    claim = claim or lab.claim()
    assert (claim.kind, claim.lease.job_id) == ("study", study_id)
    return finish(lab, claim.lease, outcome(lab, study_id, limits))


def outcome(lab: Any, study_id: str, limits: Limits = NONE) -> Any:
    found = working.found(lab.database, study_id, lambda: None)
    return outcome_of(study_id, found, step(found), limits)


def finish(lab: Any, lease: Any, ended: Any) -> Any:
    with lab.database.write() as session:
        return work.finish(session, lease, ended)


def growth_of(spec: dict[str, Any]) -> float:
    """What theory says, and a spread by seed."""
    normalized = spec["network"]["norm"]["kind"] == "batch_norm"
    return (1.2 if normalized else 0.98) + 0.001 * (spec["train"]["seed"] % 7)


def train(lab: Any, most: int = 1000, failing: int = 0) -> int:
    """Run what is queued, up to so many experiments; how many there were. The first ones fail."""
    for count in range(most):
        claim = lab.claim()
        if claim is None or claim.kind == "study":
            if claim is not None:
                finish(lab, claim.lease, work.Released())
            return count
        lab.append(claim.lease, MetricsBlock(first_step=0, count=1, values={GROWTH: [growth_of(claim.spec)]}))
        failed = work.Failed("trainer_error", "x")
        finish(lab, claim.lease, failed if count < failing else work.Succeeded("budget", {"seconds": 2.0}))
    return most


def run_all(lab: Any) -> None:
    """Whatever is queued, until nothing is."""
    while claim := lab.claim():
        if claim.kind == "study":
            took(lab, claim.lease.job_id, claim)
        else:
            finish(lab, claim.lease, work.Released())
            train(lab, 1)


def verdict(lab: Any, study_id: str) -> Any:
    with lab.database.read() as session:
        return studies.verdict(session, study_id)


def judged(lab: Any, study_id: str) -> Any:
    """Once through, to the first verdict."""
    took(lab, study_id)
    train(lab)
    took(lab, study_id)
    return verdict(lab, study_id)


def test_from_a_question_to_a_verdict(lab: Any) -> None:
    study_id = submit(lab)
    assert (get(lab, study_id).standing, get(lab, study_id).seeds) == (State.QUEUED, 6)
    assert took(lab, study_id).state is State.PAUSED
    study = get(lab, study_id)
    assert (study.standing, study.stage, study.waiting) == (State.RUNNING, "confirm", True)
    with lab.database.read() as session:
        members = studies.members(session, study_id, limit=100).rows
    assert [(one.arm, one.seed) for one in members] == [(arm, seed) for seed in range(6) for arm in ("plain", "bn")]
    tags = members[1].experiment.tags
    assert tags == {"study": study_id, "stage": "confirm", "arm": "bn"}
    assert train(lab, 11) == 11
    assert get(lab, study_id).state is State.PAUSED
    train(lab, 1)
    assert get(lab, study_id).state is State.QUEUED
    took(lab, study_id)
    found = verdict(lab, study_id)
    assert get(lab, study_id).outcomes == {"explodes": "holds (equivalent)", "plain": "holds (equivalent)"}
    assert found.taken == {"explodes": [6], "plain": [6]}
    assert found.verdicts[0]["effects"]["values"] == [1.2 + 0.001 * seed for seed in range(6)]
    assert (found.facts["seconds"], found.facts["missing"], len(found.runs)) == (24.0, [], 12)
    with lab.database.read() as session:
        standing = studies.standing(session, study_id)
    assert standing.stages["confirm"].counts == {State.SUCCEEDED: 12}


def test_a_step_that_was_lost_is_taken_again_and_submits_nothing_twice(lab: Any) -> None:
    study_id = submit(lab)
    first = lab.claim()
    stored = outcome(lab, study_id)
    lab.jump(61)
    with lab.database.write() as session:
        assert [one.state for one in reaper.reap(session)] == [State.QUEUED]
    with pytest.raises(Exception, match="no longer holds"):
        finish(lab, first.lease, stored)
    took(lab, study_id)
    # The transaction came through and its answer did not: the stage is there, and is waited for.
    lab.change(study_id, state=State.QUEUED)
    assert finish(lab, lab.claim().lease, stored).state is State.PAUSED
    assert len(lab.everything()["study_jobs"]) == 12


def test_a_wish_that_comes_while_the_next_stage_is_made_comes_first(lab: Any) -> None:
    study_id = submit(lab)
    claim = lab.claim()
    assert asking(lab, studies.cancel, study_id, ME) == 1
    assert took(lab, study_id, claim).state is State.CANCELLED
    assert not lab.everything()["study_jobs"]
    asking(lab, studies.retry, study_id, ME, NONE)
    claim = lab.claim()
    asking(lab, studies.pause, study_id, ME)
    assert took(lab, study_id, claim).state is State.PAUSED
    assert get(lab, study_id).standing is State.PAUSED
    asking(lab, studies.resume, study_id, ME, NONE)
    took(lab, study_id)
    assert len(lab.everything()["study_jobs"]) == 12


def test_a_paused_study_goes_on_when_it_is_resumed_and_no_sooner(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab, 11)
    last = lab.claim()
    assert asking(lab, studies.pause, study_id, ME) == 1
    finish(lab, last.lease, work.Succeeded("budget", {}))
    assert (get(lab, study_id).state, get(lab, study_id).standing) == (State.PAUSED, State.PAUSED)
    with lab.database.read() as session:
        assert studies.due(session) == []
    asking(lab, studies.resume, study_id, ME, NONE)
    assert get(lab, study_id).state is State.QUEUED


def test_what_ends_by_a_wish_is_found_by_whoever_looks(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab, 11)
    with lab.database.read() as session:
        left = list(session.scalars(select(Job.id).where(Job.state == State.QUEUED)))
    with lab.database.write() as session:
        wishes.ask_all(session, left, "cancel", ME)
        assert studies.due(session) == [study_id]
        assert studies.wake(session, [study_id]) == 1
        assert studies.wake(session, [study_id]) == 0
    took(lab, study_id)
    said = verdict(lab, study_id)
    assert said.facts["missing"] == left
    assert [one["missing"] for one in said.runs if one["experiment"] in left] == ["cancelled"]


def test_failed_runs_leave_it_open_and_a_retry_is_no_other_look_at_the_same_pairs(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab, failing=2)
    took(lab, study_id)
    first = verdict(lab, study_id)
    assert first.taken == {"explodes": [5], "plain": [5]}
    assert get(lab, study_id).outcomes == {"explodes": "inconclusive", "plain": "inconclusive"}
    assert "retry those experiments" in first.verdicts[0]["reasons"][0]
    assert asking(lab, studies.retry, study_id, ME, NONE) == 2
    took(lab, study_id)
    train(lab, failing=2)
    took(lab, study_id)
    assert verdict(lab, study_id).taken == {"explodes": [5], "plain": [5]}
    asking(lab, studies.retry, study_id, ME, NONE)
    took(lab, study_id)
    train(lab)
    took(lab, study_id)
    third = verdict(lab, study_id)
    assert (third.number, third.taken["plain"], third.verdicts[1]["outcome"]) == (3, [5, 6], "holds")
    assert asking(lab, studies.retry, study_id, ME, NONE) == 0
    assert get(lab, study_id).state is State.SUCCEEDED


def test_what_is_tried_again_by_itself_is_judged_whenever_it_comes(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab, failing=1)
    claim, judging = lab.claim(), outcome(lab, study_id)
    with lab.database.read() as session:
        (failed,) = session.scalars(select(Job.id).where(Job.state == State.FAILED)).all()
    with lab.database.write() as session:
        queueing.retry(session, failed, ME, NONE)
    # It was about to be judged without it.
    assert finish(lab, claim.lease, judging).state is State.PAUSED
    train(lab, failing=1)
    took(lab, study_id)
    assert verdict(lab, study_id).facts["missing"] == [failed]
    with lab.database.write() as session:
        queueing.retry(session, failed, ME, NONE)
    train(lab)
    assert asking(lab, studies.retry, study_id, ME, NONE) == 0
    took(lab, study_id)
    assert verdict(lab, study_id).taken["plain"] == [5, 6]


def test_a_study_grows_once_it_was_judged_and_no_further_than_was_said(lab: Any) -> None:
    study_id = submit(lab)
    with pytest.raises(NotExtensible, match="once it was judged"):
        asking(lab, studies.extend, study_id, 2, ME, NONE)
    before = judged(lab, study_id)
    with pytest.raises(NotExtensible, match="up to 6 more"):
        asking(lab, studies.extend, study_id, 7, ME, NONE)
    asking(lab, studies.extend, study_id, 4, ME, NONE)
    took(lab, study_id)
    assert train(lab) == 8
    took(lab, study_id)
    after = verdict(lab, study_id)
    assert (after.taken["plain"], after.verdicts[1]["effects"]["seeds"]) == ([6, 10], list(range(10)))
    assert after.verdicts[1]["estimated"]["level"] != before.verdicts[1]["estimated"]["level"]
    assert (get(lab, study_id).seeds, get(lab, study_id).extensions) == (10, [4])
    with lab.database.read() as session:
        assert studies.verdict(session, study_id, 1).verdicts == before.verdicts


def test_an_article_waits_for_its_parts_and_corrects_all_of_them_together(lab: Any) -> None:
    spec = load_study({"claim": "article", "scale": "tiny"})
    parts = [submission(TINY), submission({"claim": "scale-invariance", "scale": "tiny"})]
    with lab.database.write() as session:
        whole = studies.submit(session, StudySubmission(spec, None, "f", parts), WHO).id
        ids = [part.id for part in studies.parts(session, whole)]
        listed = [row.id for row in studies.page(session, "own_1").rows]
        assert (listed, [row.id for row in studies.page(session, "own_1", whole).rows]) == ([whole], ids[::-1])
    for study_id in (*ids, whole):
        took(lab, study_id)
    assert get(lab, whole).standing is State.RUNNING
    run_all(lab)
    said = {one["name"]: one for one in verdict(lab, whole).verdicts}
    assert set(said) == {f"{TINY['claim']}/explodes", f"{TINY['claim']}/plain", "scale-invariance/invariant"}
    alone = verdict(lab, ids[0]).verdicts
    assert said[f"{TINY['claim']}/plain"]["effects"] == alone[1]["effects"]
    with pytest.raises(InStudy):
        asking(lab, studies.delete, ids[0], ME)
    asking(lab, studies.extend, ids[0], 6, ME, NONE)
    assert [get(lab, one).standing for one in (ids[0], whole)] == [State.RUNNING, State.RUNNING]
    run_all(lab)
    assert verdict(lab, whole).taken[f"{TINY['claim']}/plain"] == [6, 12]
    asking(lab, studies.delete, whole, ME)
    with lab.database.write() as session:
        while purging.purge(session):
            pass
        assert orphans.find(session) == []
    assert not lab.everything()["jobs"]
    assert not lab.everything()["study_jobs"]


def test_what_a_study_is_judged_by_goes_with_it_alone(lab: Any) -> None:
    study_id, other = submit(lab), lab.submit()
    took(lab, study_id)
    with pytest.raises(IllegalTransition):
        asking(lab, studies.delete, study_id, ME)
    train(lab)
    with lab.database.read() as session:
        mine = list(session.scalars(select(StudyJob.job_id).order_by(StudyJob.place)))
    with lab.database.write() as session:
        with pytest.raises(InStudy, match=study_id):
            experiments.delete(session, mine[0], ME)
        assert experiments.delete_all(session, Filters(owner="own_1"), ME, 10) == 1
        assert experiments.visible(session, [other, *mine]) == set(mine)
    took(lab, study_id)
    asking(lab, studies.delete, study_id, ME)
    with lab.database.read() as session:
        assert experiments.visible(session, mine) == set()
        with pytest.raises(StudyNotFound):
            studies.get(session, study_id)


def test_a_full_queue_is_waited_for_and_one_that_is_too_small_is_said(lab: Any) -> None:
    with pytest.raises(QuotaExceeded):
        submit(lab, limits=Limits(queued_jobs=11))
    study_id = submit(lab, limits=Limits(queued_jobs=12))
    other = lab.submit()
    claim = lab.claim()
    small = outcome(lab, study_id, Limits(queued_jobs=12))
    with pytest.raises(QuotaExceeded) as refusal:
        finish(lab, claim.lease, small)
    assert finish(lab, claim.lease, refused(refusal.value, small)).state is State.QUEUED
    lab.jump(31)
    finish(lab, lab.claim().lease, work.Released())
    lab.ask(other, "cancel")
    took(lab, study_id, limits=Limits(queued_jobs=12))
    assert len(lab.everything()["study_jobs"]) == 12


def test_one_request_makes_one_study_and_one_extension(lab: Any) -> None:
    scope, made = Scope("own_1", "POST", "/v1/studies", "k"), submission()
    with lab.database.write() as session:
        first, replayed = studies.submit_once(session, scope, made, WHO, NONE)
        again, second = studies.submit_once(session, scope, made, WHO, NONE)
        assert (first.id, replayed, second) == (again.id, False, True)
        with pytest.raises(IdempotencyConflict):
            studies.submit_once(session, scope, submission({**TINY, "seeds": 7}), WHO, NONE)


def test_of_two_who_end_the_last_experiments_at_once_one_wakes_the_study(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    train(lab, 10)
    last = [lab.claim().lease for _ in range(2)]
    barrier = threading.Barrier(2)

    def end(lease: Any) -> None:
        barrier.wait()
        finish(lab, lease, work.Succeeded("budget", {}))

    threads = [threading.Thread(target=end, args=(lease,)) for lease in last]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(lab, study_id).state is State.QUEUED


def test_what_a_study_waits_for_is_not_ended_in_a_transaction_that_has_the_owners_turn(lab: Any) -> None:
    """Whoever wakes the study has its row first, and the turn after it."""
    alone, study_id = lab.running(), submit(lab)
    took(lab, study_id)
    lease, done = lab.claim().lease, work.Succeeded("budget", {})
    before = lab.everything()
    with lab.database.write() as session:
        assert work.finish_alone(session, lease, done) is None
    assert lab.everything() == before
    assert finish(lab, lease, done).state is State.SUCCEEDED
    with lab.database.write() as session:
        ended = work.finish_alone(session, alone, done)
    assert ended is not None
    assert ended.state is State.SUCCEEDED


def test_the_schema_goes_down_with_studies_in_it(lab: Any) -> None:
    study_id = submit(lab)
    took(lab, study_id)
    url = lab.database.engine.url.render_as_string(hide_password=False)
    migrate.downgrade(url, revision="0010")
    with lab.database.read() as session:
        assert session.scalars(select(Job.kind).distinct()).all() == ["experiment"]
    migrate.upgrade(url)
    assert StudyJob.__tablename__ in lab.everything()
