"""Searches through real workers: the same trials with the same bits, whatever is killed, and while it proposes, too."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from bncore.searching.proposing import propose
from bncore.spec.sweep import Trial, load_sweep, trial_points
from store import sweeps
from store.jobs.states import TERMINAL, State
from store.sweeps import SweepSubmission, searching
from tests.worker.test_pruning import bits, count, kill_all, state

SWEEP: dict[str, Any] = {
    "template": {
        "network": {"kind": "mlp", "hidden": [16], "dropout": 0.2},
        "data": {"kind": "digits", "validation": {"share": 0.3}},
        "train": {"steps": 40, "batch_size": 60},
        "evaluation": {"every_steps": 20},
        "checkpoint": {"every_steps": 15},
        "max_restarts": 20,
    },
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 2,
    "search": {
        "space": {
            "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1.0, "scale": "log"},
            "network.hidden": [[8], [16]],
        },
        "objective": "validation/loss",
        "trials": 5,
        "at_once": 2,
        "sampler": {"kind": "tpe", "seed": 3, "startup_trials": 2},
    },
}


def submit(stack: Any, owner: str) -> str:
    spec = load_sweep(SWEEP)
    proposed = json.loads(propose(searching.first(spec)))["proposals"]
    made = SweepSubmission.of(
        spec, trial_points(spec, [Trial(one["trial"], one["arm"], one["values"]) for one in proposed])
    )
    with stack.database.write() as session:
        return str(sweeps.submit(session, spec, made, owner=owner, device="cpu").id)


def through(stack: Any, sweep_id: str) -> dict[Any, Any]:
    """By arm, trial and seed: its values, and the bits of its run."""
    stack.until(f"{sweep_id} has ended", lambda: state(stack, sweep_id) in TERMINAL, 400)
    assert state(stack, sweep_id) is State.SUCCEEDED
    with stack.database.read() as session:
        rows = sweeps.members(session, sweep_id, limit=100).rows
    found = {(row.arm, row.point, row.seed): (row.values, bits(stack, row.experiment.id)) for row in rows}
    assert len(found) == len(rows), "no trial is there twice"
    return found


def is_proposing(stack: Any) -> bool:
    """Whether the relay has made a process that proposes trials."""
    relay = stack.pid("relay")
    children = Path(f"/proc/{relay}/task/{relay}/children").read_text().split()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return any(b"bncore.searching" in Path(f"/proc/{child}/cmdline").read_bytes() for child in children)
    return False


@pytest.mark.system
@pytest.mark.timeout(900)
def test_the_same_trials_come_with_the_same_bits_whatever_is_killed(small_stack: Any) -> None:
    small_stack.start("api")
    # Two at once, of two owners.
    undisturbed = [submit(small_stack, owner) for owner in ("own_1", "own_2")]
    expected, again = (through(small_stack, one) for one in undisturbed)
    assert len(expected) == len(SWEEP["arms"]) * SWEEP["search"]["trials"] * SWEEP["seeds"]
    assert again == expected
    killed = submit(small_stack, "own_3")
    kill_all(
        small_stack, "a run", lambda: count(small_stack, killed, lambda _, now: now.counts.get(State.SUCCEEDED, 0)) >= 1
    )
    for trials in (5, 7, 9):
        small_stack.until(
            f"{trials} trials, or another is proposed",
            lambda trials=trials: (
                is_proposing(small_stack) or count(small_stack, killed, lambda row, _: row.points) >= trials
            ),
            400,
        )
        small_stack.kill("relay")
        small_stack.start("relay")
    kill_all(small_stack, "eight trials", lambda: count(small_stack, killed, lambda row, _: row.points) >= 8)
    assert through(small_stack, killed) == expected
    small_stack.terminate("api")
