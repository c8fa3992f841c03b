"""Whoever has no room left for checkpoints loses runs for a while, and nothing is decided without them: no rung of a
sweep, no trial of a search, no setting of a study."""

import json
from typing import Any

import pytest

from bncore.events import MetricsBlock
from bncore.searching.proposing import propose
from bncore.spec.study import load_study
from bncore.spec.sweep import Trial, load_sweep, trial_points
from bncore.studies.asking import checked
from bncore.studies.stepping import step
from store import experiments, studies, sweeps, work
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits, Submitter
from store.studies import StudySubmission, working
from store.sweeps import SweepSubmission, searching
from tests.store.sweep_rows import now, rows_of, state
from tests.store.test_pruning import ask, asking, decisions, progress, run_all, submit, through, train
from worker.pruning import Pruning
from worker.searching import Searching
from worker.studying import outcome_of

ME = By("own_1", "key_1")
FULL = work.Failed("quota", "Your limit of 5 stored bytes is reached. Delete what is not needed, and retry.")


@pytest.fixture
def undisturbed(lab: Any) -> list[Any]:
    """What is decided of the sweep where there is room."""
    sweep = submit(lab)
    through(lab, sweep)
    return decisions(lab, sweep)


def leaders_without_room(lab: Any, sweep: Any, place: int = 0) -> list[str]:
    """Run to the rung, where the runs of the point that ranks there are refused their checkpoints."""
    best = [row.experiment.id for row in rows_of(lab, sweep) if row.arm == "bn" and row.point == place]
    rows = {row.experiment.id: row for row in rows_of(lab, sweep)}
    while (claim := lab.claim()) is not None:
        train(lab, claim, rows[claim.lease.job_id], FULL if claim.lease.job_id in best else None)
    return best


def test_leaders_of_a_rung_that_found_no_room_are_waited_for_and_lead(lab: Any, undisturbed: list[Any]) -> None:
    first = next(entry[-1][0]["point"] for entry in undisturbed if (entry[0], entry[1]) == ("bn", 0))
    sweep = submit(lab)
    best = leaders_without_room(lab, sweep, first)
    for _ in range(2):
        Pruning(lab.database).turn()
        run_all(lab, sweep)
    # The other arm is through; of this one nothing is decided.
    assert {(entry[0], entry[1]) for entry in decisions(lab, sweep)} == {("none", 0), ("none", 1)}
    waiting = next(rung for rung in progress(lab, sweep) if rung.bracket == "bn")
    assert (waiting.awaited, waiting.decided_at) == (2, None)
    assert (state(lab, sweep), now(lab, sweep).prune_state) == (State.FAILED, "open")
    with lab.database.read() as session:
        assert sweeps.mark_of(sweeps.get(session, sweep.id), sweeps.standing(session, sweep.id)).is_terminal
    assert ask(lab, sweep, sweeps.retry, limits=Limits()) == 2
    assert state(lab, sweep) is State.RUNNING
    through(lab, sweep)
    assert decisions(lab, sweep) == undisturbed
    assert state(lab, sweep) is State.SUCCEEDED
    assert {lab.get(one).state for one in best} <= {State.SUCCEEDED, State.CANCELLED}


def test_whoever_gives_them_up_has_the_rung_decided_without_them(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    rows = rows_of(lab, sweep)
    claim = lab.claim()
    lab.finish(claim.lease, FULL)
    run_all(lab, sweep)
    assert not Pruning(lab.database).turn()
    assert state(lab, sweep) is State.FAILED
    asking(lab, experiments.delete, claim.lease.job_id, ME)
    through(lab, sweep)
    ((*_, ranking), _) = decisions(lab, sweep)
    assert [one["point"] for one in ranking if one["mean"] is None] in ([], [rows[0].point])
    assert state(lab, sweep) is State.SUCCEEDED


def test_what_else_waits_or_rests_by_its_owners_wish_is_no_failure_yet(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    lab.finish(lab.claim().lease, FULL)
    assert state(lab, sweep) is State.RUNNING
    ask(lab, sweep, sweeps.pause)
    assert state(lab, sweep) is State.PAUSED
    ask(lab, sweep, sweeps.resume, limits=Limits())
    run_all(lab, sweep)
    assert state(lab, sweep) is State.FAILED
    ask(lab, sweep, sweeps.cancel)
    assert (state(lab, sweep), now(lab, sweep).prune_state) == (State.FAILED, "stopped")
    ask(lab, sweep, sweeps.delete)


SEARCH: dict[str, Any] = {
    "template": {"train": {"steps": 10}},
    "search": {
        "space": {"optimizer.lr": {"kind": "float", "low": 0.01, "high": 1.0}},
        "objective": "test/accuracy",
        "trials": 6,
        "at_once": 2,
        "sampler": {"kind": "tpe", "seed": 3, "startup_trials": 2},
    },
}


def search_through(lab: Any, full_at: int | None = None) -> list[Any]:
    """The values of its trials, where one finds no room at first."""
    spec = load_sweep(SEARCH)
    trials = [
        Trial(one["trial"], one["arm"], one["values"])
        for one in json.loads(propose(searching.first(spec)))["proposals"]
    ]
    with lab.database.write() as session:
        sweep = sweeps.submit(
            session, spec, SweepSubmission.of(spec, trial_points(spec, trials)), owner="own_1", device="cpu"
        )
    looks, count = Searching(lab.database), 0
    while True:
        while (claim := lab.claim()) is not None:
            if count == full_at:
                lab.finish(claim.lease, FULL)
            else:
                rate = claim.spec["optimizer"]["lr"]
                block = MetricsBlock(first_step=10, count=1, values={"test/accuracy": [1 - (rate - 0.3) ** 2]})
                lab.append(claim.lease, block)
                lab.finish(claim.lease, work.Succeeded("budget", {}))
            count += 1
        if not looks.turn():
            if state(lab, sweep) is not State.FAILED:
                break
            # One behind the trial that waits, and no more.
            assert (now(lab, sweep).search_state, len(rows_of(lab, sweep))) == ("open", full_at + 2)
            assert ask(lab, sweep, sweeps.retry, limits=Limits()) == 1
    assert (state(lab, sweep), now(lab, sweep).search_state) == (State.SUCCEEDED, "done")
    return [row.values for row in rows_of(lab, sweep)]


def test_a_search_waits_for_a_trial_that_found_no_room(lab: Any) -> None:
    assert search_through(lab, full_at=2) == search_through(lab)


BN: dict[str, Any] = {
    "data": {"kind": "digits", "validation": {"share": 0.2}},
    "network": {"kind": "mlp", "hidden": [4], "norm": {"kind": "batch_norm"}},
    "train": {"steps": 10},
}
ASKED: dict[str, Any] = {
    "compare": {"baseline": {**BN, "network": {**BN["network"], "norm": {"kind": "none"}}}, "bn": BN},
    "delta": 0.01,
    "seeds": 6,
    "tune": {"optimizer.lr": [0.01, 0.1, 1.0]},
    "tuning_seeds": 1,
}


def study_through(lab: Any, full_at_rate: float | None = None) -> Any:
    spec, asked = checked(load_study(ASKED), lambda document: document)
    made = StudySubmission(spec, asked, studies.request_fingerprint(spec))
    with lab.database.write() as session:
        study_id = studies.submit(session, made, Submitter("own_1", "cpu", "key_1"), Limits()).id
    refused = 0
    while True:
        while (claim := lab.claim()) is not None:
            if claim.kind == "study":
                found = working.found(lab.database, study_id, lambda: None)
                with lab.database.write() as session:
                    work.finish(session, claim.lease, outcome_of(study_id, found, step(found), Limits()))
                continue
            rate = claim.spec["optimizer"]["lr"]
            if rate == full_at_rate and claim.lease.attempt == 1 and claim.spec["train"]["seed"] >= 1_000_000:
                refused += 1
                lab.finish(claim.lease, FULL)
                continue
            score = 0.9 - abs(rate - 0.1) / 10 + claim.spec["train"]["seed"] % 7 / 1000
            values = {key: [score] for key in ("test/accuracy", "validation/accuracy", "train/loss")}
            lab.append(claim.lease, MetricsBlock(first_step=10, count=1, values=values))
            lab.finish(claim.lease, work.Succeeded("budget", {"seconds": 1.0}))
        with lab.database.read() as session:
            study = studies.get(session, study_id)
        if study.state is State.SUCCEEDED:
            break
        assert (study.state, study.failure_code) == (State.FAILED, "quota")
        assert "without 2 of its experiments" in study.failure_message
        assert refused == 2
        with lab.database.write() as session:
            assert studies.retry(session, study, ME, Limits()) == 3
    with lab.database.read() as session:
        found = studies.verdict(session, study_id)
    return found.verdicts, [(run["arm"], run["setting"], run["seed"], run["metrics"]) for run in found.runs]


def test_no_setting_is_chosen_without_one_that_found_no_room(lab: Any) -> None:
    assert study_through(lab, full_at_rate=0.1) == study_through(lab)
