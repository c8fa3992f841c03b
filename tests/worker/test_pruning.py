"""Pruned sweeps through real workers: the same points are left whatever is killed, with the bits of unpruned runs."""

from typing import Any

import pytest

from bncore.spec.sweep import expand, load_sweep
from store import sweeps
from store.columns import core
from store.jobs.states import TERMINAL, State
from store.sweeps import SweepSubmission
from store.tables import SweepRung

SWEEP: dict[str, Any] = {
    "template": {
        "network": {"kind": "mlp", "hidden": [16], "dropout": 0.2},
        "data": {"kind": "digits", "validation": {"share": 0.3}},
        "optimizer": {"kind": "sgd", "momentum": 0.9},
        "train": {"steps": 40, "batch_size": 60},
        "evaluation": {"every_steps": 10},
        "checkpoint": {"every_steps": 15},
        "max_restarts": 20,
    },
    "axes": {"optimizer.lr": [0.0001, 0.003, 0.03, 0.3]},
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 2,
    "prune": {"metric": "validation/loss", "first_steps": 10, "factor": 2},
}


def submit(stack: Any, owner: str) -> str:
    spec = load_sweep(SWEEP)
    with stack.database.write() as session:
        made = SweepSubmission.of(spec, expand(spec))
        return str(sweeps.submit(session, spec, made, owner=owner, device="cpu").id)


def state(stack: Any, sweep_id: str) -> State:
    with stack.database.read() as session:
        return sweeps.state_of(sweeps.get(session, sweep_id), sweeps.standing(session, sweep_id))


def through(stack: Any, sweep_id: str) -> Any:
    """What was decided, and by point and seed how each run ended."""
    stack.until(f"{sweep_id} has ended", lambda: state(stack, sweep_id) in TERMINAL, 400)
    assert state(stack, sweep_id) is State.SUCCEEDED
    table = core(SweepRung).c
    with stack.database.read() as session:
        rows = sweeps.members(session, sweep_id, limit=100).rows
        rungs = session.query(SweepRung).where(table.sweep_id == sweep_id).order_by(table.bracket, table.number)
        ranked = [(rung.bracket, rung.step, rung.points, rung.kept, rung.ranking) for rung in rungs]
    ends = {(row.point, row.seed): (row.experiment.state, row.experiment.step) for row in rows}
    left = {(row.point, row.seed): row.experiment for row in rows if row.experiment.state is State.SUCCEEDED}
    return ranked, ends, left


def bits(stack: Any, experiment_id: str) -> Any:
    """Its weights, and every number that it has measured."""
    series = stack.series(experiment_id)
    numbers = {key: (steps, values.tobytes()) for key, (steps, values) in series.items()}
    return stack.checkpoint(experiment_id).weights.sha256, stack.checkpoint(experiment_id, "best").step, numbers


def kill_all(stack: Any, what: str, when: Any) -> None:
    stack.until(what, when, 400)
    for name in ("worker", "relay", "api"):
        stack.kill(name)
    stack.start("api")
    stack.start_warm("relay", "worker")


def rests_or_is_decided(row: Any, now: Any) -> bool:
    """Those that rest go on once their rung is decided, which may be before anybody has looked."""
    return now.resting >= 3 or row.rungs_decided >= 1


def count(stack: Any, sweep_id: str, of: Any) -> int:
    with stack.database.read() as session:
        return int(of(sweeps.get(session, sweep_id), sweeps.standing(session, sweep_id)))


@pytest.mark.system
@pytest.mark.timeout(900)
def test_the_same_points_are_left_with_the_bits_of_runs_that_never_rested(small_stack: Any) -> None:
    small_stack.start("api")
    # Two at once, of two owners.
    both = [submit(small_stack, owner) for owner in ("own_1", "own_2")]
    ranked, ends, left = through(small_stack, both[0])
    assert [row[:4] for row in ranked] == [
        (arm, step, points, kept) for arm in ("bn", "none") for step, points, kept in ((10, 4, 2), (20, 2, 1))
    ]  # fmt: skip
    assert sorted(step for _, step in ends.values()) == [10] * 8 + [20] * 4 + [40] * 4
    assert {state for state, step in ends.values() if step < 40} == {State.CANCELLED}
    again, other_ends, other_left = through(small_stack, both[1])
    assert (again, other_ends) == (ranked, ends)
    whole = {place: small_stack.submit(row.spec) for place, row in left.items()}
    expected = {}
    for place, experiment_id in whole.items():
        assert small_stack.await_state(experiment_id, seconds=400).state == "succeeded"
        expected[place] = bits(small_stack, experiment_id)
        assert small_stack.experiment(experiment_id).fingerprint == left[place].fingerprint
        assert bits(small_stack, left[place].id) == expected[place] == bits(small_stack, other_left[place].id)
        assert small_stack.experiment(experiment_id).attempt < left[place].attempt
    killed = submit(small_stack, "own_3")
    kill_all(small_stack, "some rest", lambda: count(small_stack, killed, rests_or_is_decided))
    kill_all(small_stack, "a rung", lambda: count(small_stack, killed, lambda row, _: row.rungs_decided) >= 1)
    kill_all(small_stack, "three rungs", lambda: count(small_stack, killed, lambda row, _: row.rungs_decided) >= 3)
    found, found_ends, found_left = through(small_stack, killed)
    assert (found, found_ends) == (ranked, ends)
    assert {place: bits(small_stack, row.id) for place, row in found_left.items()} == expected
    small_stack.terminate("api")
