"""What is left of a sweep that is pruned is what its rungs leave of it, counted by hand."""

from typing import Any

import pytest

from bncore.events import MetricsBlock
from store import sweeps, work
from store.jobs.states import State
from tests.store.sweep_rows import rows_of, state
from tests.store.test_pruning import ME, RATES, SWEEP, now, run_all, submit, train
from worker.pruning import Pruning

STEPS = 100
# Of 9 points 3 go on from step 10, and 1 of those from step 30.
OF_AN_ARM = 6 * 10 + 2 * 30 + 1 * STEPS


def foreseen(lab: Any, sweep: Any) -> Any:
    with lab.database.read() as session:
        return sweeps.foreseen(session, sweeps.get(session, sweep.id))


def test_before_while_and_after_it_is_decided_the_same_steps_are_expected(lab: Any) -> None:
    sweep = submit(lab)
    whole = len(SWEEP["arms"]) * SWEEP["seeds"] * OF_AN_ARM
    found = []
    while state(lab, sweep) in (State.QUEUED, State.RUNNING):
        found.append(foreseen(lab, sweep))
        run_all(lab, sweep)
        found.append(foreseen(lab, sweep))
        Pruning(lab.database).turn()
    found.append(foreseen(lab, sweep))
    assert {one.expected_steps for one in found} == {whole}
    assert [one.steps_left for one in found] == [whole - one.steps for one in found]
    assert (found[0].steps, found[-1].steps, found[-1].spared) == (0, whole, 0)


def test_what_ended_by_itself_is_the_first_to_go_at_a_rung(lab: Any) -> None:
    """Nobody waits for the steps that a run which diverged has not taken, and as many go on as without it."""
    sweep = submit(lab, arms={}, seeds=1)
    claim = lab.claim()
    lab.append(claim.lease, MetricsBlock(first_step=5, count=1, values={"train/loss": [1e9]}))
    lab.finish(claim.lease, work.Succeeded("diverged", {}))
    left = 5 * 10 + 2 * 30 + STEPS
    assert foreseen(lab, sweep).steps_left == left
    run_all(lab, sweep)
    assert Pruning(lab.database).turn()
    assert foreseen(lab, sweep).steps_left == left - 8 * 10


def test_time_is_left_for_the_steps_that_are_at_the_pace_of_last_attempts(lab: Any) -> None:
    sweep = submit(lab)
    arm = {row.experiment.id: row.arm for row in rows_of(lab, sweep)}
    slow = tuple(one for one, name in arm.items() if name == "none")
    held = []
    for _ in range(3):
        rows, claims = {row.experiment.id: row for row in rows_of(lab, sweep)}, []
        while (claim := lab.claim()) is not None:
            claims.append(claim)
        for claim in claims:
            if claim.lease.job_id in slow:
                held.append(claim)
            else:
                train(lab, claim, rows[claim.lease.job_id])
        Pruning(lab.database).turn()
    ended = [row.experiment for row in rows_of(lab, sweep) if row.experiment.state is State.SUCCEEDED]
    assert [arm[one.id] for one in ended] == ["bn"] * SWEEP["seeds"]
    # Each had rested at 30, and its last attempt took the 70 steps behind that.
    pace = sum(one.finished_at - one.claimed_at for one in ended) / (len(ended) * (STEPS - 30))
    found = foreseen(lab, sweep)
    assert found.counts[State.RUNNING] == len(held) == len(RATES) * SWEEP["seeds"]
    assert found.steps_left == SWEEP["seeds"] * OF_AN_ARM
    assert found.eta_seconds == pytest.approx(SWEEP["seeds"] * OF_AN_ARM * pace / len(held))


def test_a_sweep_that_was_cancelled_foresees_nothing(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    with lab.database.write() as session:
        sweeps.cancel(session, now(lab, sweep), ME)
    found = foreseen(lab, sweep)
    assert (found.spared, found.steps_left, found.eta_seconds) == (0, 0, None)
