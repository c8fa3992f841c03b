"""Searches of sweeps: the same trials, whatever ends first, is killed or asks twice."""

import json
import math
import random
from typing import Any

import pytest

from bncore.events import MetricsBlock
from bncore.searching.proposing import propose
from bncore.spec.sweep import Trial, load_sweep, trial_points
from store import sweeps, work
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.sweeps import SweepSubmission, searching
from tests.store.sweep_rows import now, rows_of, state
from worker.searching import Searching

ME = By("own_1", "key_1")
SPACE = {
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 10.0, "scale": "log"},
    "network.hidden": [[4], [8], [16]],
}
SWEEP: dict[str, Any] = {
    "template": {"train": {"steps": 10}},
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 2,
    "search": {
        "space": SPACE,
        "objective": "test/accuracy",
        "trials": 7,
        "at_once": 3,
        "sampler": {"kind": "tpe", "seed": 3, "startup_trials": 3},
    },
}


def submit(lab: Any, said: Any = None) -> Any:
    spec = load_sweep(said or SWEEP)
    asked = searching.first(spec)
    trials = [Trial(one["trial"], one["arm"], one["values"]) for one in json.loads(propose(asked))["proposals"]]
    made = SweepSubmission.of(spec, trial_points(spec, trials))
    with lab.database.write() as session:
        return sweeps.submit(session, spec, made, owner="own_1", device="cpu", key_id="key_1")


def accuracy(values: Any) -> float:
    """The best rate is a tenth."""
    return 1.0 - (math.log10(values["optimizer.lr"]) + 1) ** 2 / 20 - len(values["network.hidden"]) / 100


def end(lab: Any, leases: dict[str, Any], row: Any) -> None:
    """One run, which diverges where the rate is above 3."""
    values = row.values
    lab.append(
        leases[row.experiment.id], MetricsBlock(first_step=10, count=1, values={"test/accuracy": [accuracy(values)]})
    )
    diverges = values["optimizer.lr"] > 3.0 and row.seed == 1
    lab.finish(leases.pop(row.experiment.id), work.Succeeded("diverged" if diverges else "budget", {}))


def run_through(lab: Any, sweep: Any, order: random.Random, searchers: list[Searching]) -> None:
    """Runs end in any order, a few at a time, and somebody looks in between."""
    leases: dict[str, Any] = {}
    for _ in range(1000):
        order.choice(searchers).turn()
        while (claim := lab.claim()) is not None:
            leases[claim.lease.job_id] = claim.lease
        waiting = [row for row in rows_of(lab, sweep) if row.experiment.id in leases]
        if not waiting and now(lab, sweep).search_state != "open":
            return
        for row in order.sample(waiting, min(len(waiting), order.randint(1, 4))):
            end(lab, leases, row)
    raise AssertionError("the search has not ended")


def trials_of(lab: Any, sweep: Any) -> dict[tuple[str, int], Any]:
    found: dict[tuple[str, int], Any] = {}
    for row in rows_of(lab, sweep):
        key = (row.arm, row.point // 2)
        assert found.setdefault(key, row.values) == row.values
    return found


def test_trials_are_the_same_in_whatever_order_runs_end_and_whoever_proposes(lab: Any) -> None:
    found = []
    for seed in range(2):
        sweep = submit(lab)
        searchers = [Searching(lab.database) for _ in range(seed + 1)]
        run_through(lab, sweep, random.Random(seed), searchers)
        rows = rows_of(lab, sweep)
        assert sorted((row.arm, row.point // 2, row.seed) for row in rows) == [
            (arm, trial, seed) for arm in ("bn", "none") for trial in range(7) for seed in (0, 1)
        ]
        assert (now(lab, sweep).search_state, now(lab, sweep).points) == ("done", 14)
        found.append(trials_of(lab, sweep))
        for row in rows:
            spec = row.experiment.spec
            assert (spec["optimizer"]["lr"], spec["network"]["hidden"]) == tuple(row.values[path] for path in SPACE)
    assert found[0] == found[1]
    # Arms search by themselves.
    assert [found[0]["bn", trial] for trial in range(3)] != [found[0]["none", trial] for trial in range(3)]


def test_what_was_proposed_by_two_at_once_is_stored_once(lab: Any) -> None:
    sweep = submit(lab)
    leases = {}
    while (claim := lab.claim()) is not None:
        leases[claim.lease.job_id] = claim.lease
    for row in rows_of(lab, sweep):
        end(lab, leases, row)
    assert state(lab, sweep) is State.RUNNING
    with lab.database.read() as session:
        before = sweeps.get(session, sweep.id)
        asked = searching.asked(session, before)
    trials = [Trial(one["trial"], one["arm"], one["values"]) for one in json.loads(propose(asked))["proposals"]]
    spec = load_sweep(before.spec)
    made = SweepSubmission.of(spec, trial_points(spec, trials))
    for is_first in (True, False):
        with lab.database.write() as session:
            assert searching.advance(session, before, made, is_last=False) is is_first
    assert len(rows_of(lab, sweep)) == 2 * 2 * 6


def test_what_diverged_or_failed_is_told_as_such_and_a_mean_is_of_all_seeds(lab: Any) -> None:
    sweep = submit(lab, {**SWEEP, "arms": {}})
    outcomes = [work.Succeeded("budget", {}), work.Succeeded("diverged", {}), work.Failed("trainer_error", "x")]
    for number in range(6):
        lease = lab.claim().lease
        lab.append(lease, MetricsBlock(first_step=10, count=1, values={"test/accuracy": [0.5 + number / 10]}))
        lab.finish(lease, outcomes[number // 2] if number % 2 else outcomes[0])
    with lab.database.read() as session:
        row = sweeps.get(session, sweep.id)
        (trials,) = searching.history(session, row, load_sweep(row.spec)).values()
    assert [(one["outcome"], one["value"]) for one in trials if one] == [
        ("measured", pytest.approx(0.55)), ("lost", None), ("failed", None)
    ]  # fmt: skip


def test_a_search_rests_ends_and_goes_on_as_it_is_asked(lab: Any) -> None:
    sweep = submit(lab)

    def ask(call: Any, **named: Any) -> None:
        with lab.database.write() as session:
            call(session, sweeps.get(session, sweep.id), ME, **named)

    ask(sweeps.pause)
    assert (state(lab, sweep), Searching(lab.database).turn()) == (State.PAUSED, False)
    ask(sweeps.resume, limits=Limits())
    assert now(lab, sweep).search_state == "open"
    ask(sweeps.cancel)
    assert (state(lab, sweep), Searching(lab.database).turn()) == (State.CANCELLED, False)
    ask(sweeps.retry, limits=Limits(), cancelled=True)
    run_through(lab, sweep, random.Random(0), [Searching(lab.database)])
    assert (state(lab, sweep), now(lab, sweep).points) == (State.SUCCEEDED, 14)


def test_a_proposal_that_is_no_spec_ends_the_search_with_the_reason(lab: Any) -> None:
    space = {"train.batch_size": [10, 20, 30], "train.accumulate": {"kind": "integer", "low": 1, "high": 25}}
    search = {**SWEEP["search"], "space": space, "trials": 40, "at_once": 40, "sampler": {"kind": "random", "seed": 0}}
    spec = load_sweep({**SWEEP, "arms": {}, "search": {**search, "at_once": 1}})
    made = SweepSubmission.of(
        spec, trial_points(spec, [Trial(0, None, {"train.batch_size": 30, "train.accumulate": 1})])
    )
    with lab.database.write() as session:
        sweep = sweeps.submit(session, spec, made, owner="own_1", device="cpu")
    for _ in range(40):
        while (claim := lab.claim()) is not None:
            lab.finish(claim.lease, work.Succeeded("budget", {}))
        Searching(lab.database).turn()
        if now(lab, sweep).search_state != "open":
            break
    assert (state(lab, sweep), "accumulate" in now(lab, sweep).search_note) == (State.FAILED, True)
