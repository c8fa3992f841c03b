"""The main job through real processes: from submit to the end, whichever end that is."""

import hashlib

import pytest
from safetensors.numpy import load

from store.processes import live
from tests.stack import has_ended


@pytest.fixture
def stack(small_stack):
    return small_stack


def _spec(steps=500, **other):
    return {"train": {"steps": steps}, "checkpoint": {"every_steps": 200}, **other}


def test_a_spec_trains_to_its_end_and_leaves_nothing_but_its_results(stack):
    experiments = [stack.submit(_spec()), stack.submit(_spec(steps=100))]
    rows = [stack.await_state(one) for one in experiments]
    assert [row.state for row in rows] == ["succeeded", "succeeded"]
    assert [row.stop_reason for row in rows] == ["budget", "budget"]
    assert rows[0].attempt == 1
    assert rows[0].summary["test_accuracy"] > 0.8

    series = stack.series(experiments[0])
    assert series["train/loss"][0] == list(range(1, 501))
    assert series["test/accuracy"][0] == [100, 200, 300, 400, 500]
    last = stack.checkpoint(experiments[0], "last")
    assert last.step == 500
    assert hashlib.sha256(stack.content(last)).hexdigest() == last.weights.sha256
    assert hashlib.sha256(stack.content(last, "state")).hexdigest() == last.state.sha256
    assert load(stack.content(stack.checkpoint(experiments[0], "best")))

    kinds = [kind for _, kind in stack.events(experiments[0])]
    assert [kind for kind in kinds if kind != "checkpoint"] == [
        "submitted",
        "claimed",
        "started",
        "first_step",
        "succeeded",
    ]
    stack.until("run directories are gone", lambda: not list((stack.directory / "runs").glob("exp_*")))
    lines = [line for line in stack.log("worker") if line["event"] == "attempt_ended"]
    assert [(line["experiment_id"], line["attempt"]) for line in lines[-2:]] == [(one, 1) for one in experiments]


def test_what_runs_can_be_cancelled_and_what_takes_too_long_ends(stack):
    endless = _spec(steps=1_000_000)
    cancelled, overdue = stack.submit(endless), stack.submit({**endless, "deadline_seconds": 1.0})
    stack.await_step(cancelled, 100)
    stack.cancel(cancelled)
    row = stack.await_state(cancelled)
    assert row.state == "cancelled"
    # Everything up to the cancel is there, checkpoint included.
    assert stack.checkpoint(cancelled).step == row.step
    assert stack.series(cancelled)["train/loss"][0] == list(range(1, row.step + 1))

    row = stack.await_state(overdue)
    assert (row.state, row.failure_code) == ("failed", "deadline")
    assert row.restarts == 0


def test_the_worker_says_that_it_lives_and_what_it_does(stack):
    experiment = stack.submit(_spec(steps=1_000_000))
    stack.await_step(experiment, 1)

    def heartbeats():
        with stack.database.read() as session:
            return {one.pid: one for one in live(session, within_seconds=60.0)}

    mine = stack.pid("worker")
    stack.until("its heartbeat names it", lambda: getattr(heartbeats().get(mine), "job_id", None) == experiment)
    stack.until("the relay lives", lambda: stack.pid("relay") in heartbeats())
    worker, relay = heartbeats()[mine], heartbeats()[stack.pid("relay")]
    assert (worker.kind, worker.device, worker.broker_ok) == ("worker", "cpu", True)
    assert set(worker.versions) - {"mlxtend"} == {"python", "bnlab", "torch", "celery", "scipy"}
    assert (relay.kind, relay.device, relay.broker_ok) == ("relay", None, True)

    trainers = stack.trainers("worker")
    assert stack.close_stdin("worker") == 0
    stack.until("its trainers have ended", lambda: all(has_ended(one.pid) for one in trainers))
    assert mine not in heartbeats()
    row = stack.experiment(experiment)
    assert (row.state, row.restarts) == ("queued", 0)
    assert stack.checkpoint(experiment).step == row.step
    stack.cancel(experiment)
    stack.start("worker")
