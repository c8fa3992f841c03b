"""What an owner can ask of a run, and what its deadline and its silence do: through real workers and trainers."""

import contextlib

import psutil

from store.errors import IllegalTransition
from store.jobs import wishes
from store.jobs.wishes import By

_TRIES = 5


def _long(**parts):
    return {"train": {"steps": 1_000_000}, "checkpoint": {"every_steps": 200}, **parts}


def _ask(stack, experiment, wish):
    with stack.database.write() as session:
        wishes.ask(session, experiment, wish, By(None, "key_1"))


def _resume(stack, experiment):
    with stack.database.write() as session:
        wishes.resume(session, experiment, By(None))


def _last(stack, event):
    return [line for line in stack.log("worker") if line["event"] == event][-1]


def _trainer(stack):
    return psutil.Process(_last(stack, "training")["pid"])


def test_a_paused_run_goes_on_from_where_it_was(small_stack):
    stack = small_stack
    experiment = stack.submit(_long())
    stack.await_step(experiment, 300)
    _ask(stack, experiment, "pause")
    paused = stack.await_state(experiment, "paused")
    assert paused.step >= 300
    _resume(stack, experiment)
    stack.await_step(experiment, paused.step + 1, attempt=2)
    _ask(stack, experiment, "cancel")
    row = stack.await_state(experiment)
    assert (row.state, row.restarts, row.attempt) == ("cancelled", 0, 2)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, row.step + 1))


def test_a_killed_run_does_not_wait_for_a_checkpoint(small_stack):
    stack = small_stack
    experiment = stack.submit(_long(checkpoint={"every_steps": 1_000_000}))
    stack.await_step(experiment, 1)
    # A trainer that stands still could not save anything.
    _trainer(stack).suspend()
    _ask(stack, experiment, "kill")
    # The grace time is longer than this waits.
    row = stack.await_state(experiment)
    assert (row.state, row.desired) == ("cancelled", None)
    assert (1, "kill_requested") in stack.events(experiment)


def test_a_cancelled_run_is_retried_from_its_last_checkpoint(small_stack):
    stack = small_stack
    cancelled = _cancelled_on_the_way(stack, _long(train={"steps": 1500}, checkpoint={"every_steps": 100}))
    experiment = cancelled.id
    with stack.database.write() as session:
        wishes.retry(session, experiment, By(None))
    row = stack.await_state(experiment)
    assert (row.state, row.attempt, row.restarts) == ("succeeded", 2, 0)
    assert stack.series(experiment)["train/loss"][0] == list(range(1, 1501))
    started = [line for line in stack.log("worker") if line["event"] == "training"]
    assert started[-1]["resumed_from_step"] == cancelled.step


def _cancelled_on_the_way(stack, spec):
    """A run with an end that was cancelled before it; one that was through before is tried again."""
    for _ in range(_TRIES):
        experiment = stack.submit(spec)
        stack.until("it is on its way", lambda one=experiment: stack.experiment(one).step >= 300)
        with contextlib.suppress(IllegalTransition):
            _ask(stack, experiment, "cancel")
        row = stack.await_state(experiment)
        if row.state == "cancelled":
            return row
    raise AssertionError(f"{_TRIES} runs were through before they could be cancelled")


def test_a_trainer_that_says_nothing_is_killed_and_started_again(small_stack):
    stack = small_stack
    experiment = stack.submit(_long(stall_seconds=2.0, max_restarts=100))
    stack.await_step(experiment, 300)
    # On a busy machine it may have said nothing for so long, and be gone, before it was told to.
    with contextlib.suppress(psutil.NoSuchProcess):
        _trainer(stack).suspend()
    stack.await_step(experiment, 301, attempt=2)
    assert (1, "restarted") in stack.events(experiment)
    assert {"reason": "stall"}.items() <= _last(stack, "trainer_killed").items()
    row = stack.experiment(experiment)
    assert row.restarts == row.attempt - 1
    _ask(stack, experiment, "cancel")
    assert stack.await_state(experiment).state == "cancelled"


def test_a_deadline_ends_a_run(small_stack):
    stack = small_stack
    # Until the first is long enough for a step.
    for deadline_seconds in (2.0, 10.0, 30.0):
        experiment = stack.submit(_long(deadline_seconds=deadline_seconds))
        row = stack.await_state(experiment)
        assert (row.state, row.failure_code) == ("failed", "deadline")
        if row.step > 0:
            return
    raise AssertionError("no run had a step before its deadline")
