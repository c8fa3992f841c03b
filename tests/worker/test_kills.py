"""Killed in the middle, a run ends bit for bit like one that nobody disturbed.

Two workers, so that one takes over; one undisturbed run to compare with; then one disturbance after another.
"""

import contextlib
import signal

import numpy as np
import psutil
import pytest
from safetensors.numpy import load

# Five runs one after the other, with lost leases and trainers that start anew in between.
pytestmark = pytest.mark.timeout(900)
_TRIES = 5


def _training(stack, worker):
    """The trainer process that trains, as the worker's log names it."""
    pid = [line["pid"] for line in stack.log(worker) if line["event"] == "training"][-1]
    return psutil.Process(pid)


def _busy(stack, experiment):
    """The worker that runs the experiment."""
    names = [name for name in ("worker-1", "worker-2") if experiment in stack.log_path(name).read_text()]
    return max(names, key=lambda name: max(line["timestamp"] for line in _lines(stack, name, experiment)))


def _lines(stack, name, experiment):
    return [line for line in stack.log(name) if line.get("experiment_id") == experiment]


def _kill_trainer(stack, experiment):
    _training(stack, _busy(stack, experiment)).kill()


def _kill_worker(stack, experiment):
    """As `kill -9` does; the trainer has to go by itself."""
    worker = _busy(stack, experiment)
    trainer = _training(stack, worker)
    stack.kill(worker)
    trainer.wait(60)
    stack.start(worker)


def _kill_both(stack, experiment):
    """As a machine that is switched off."""
    worker = _busy(stack, experiment)
    trainer = _training(stack, worker)
    trainer.send_signal(signal.SIGSTOP)
    stack.kill(worker)
    # It may have gone with its worker.
    with contextlib.suppress(psutil.NoSuchProcess):
        trainer.kill()
    stack.start(worker)


def _terminate_worker(stack, experiment):
    stack.start(_terminate_for_good(stack, experiment))


def _terminate_for_good(stack, experiment):
    worker = _busy(stack, experiment)
    assert stack.terminate(worker) == 0
    return worker


def _assert_equal_runs(stack, one, other):
    mine, theirs = stack.series(one), stack.series(other)
    assert mine.keys() == theirs.keys()
    for key in mine:
        assert mine[key][0] == theirs[key][0], key
        np.testing.assert_array_equal(mine[key][1], theirs[key][1], strict=True)
    assert stack.recordings(one) == stack.recordings(other) != []
    for kind in ("last", "best"):
        first, second = stack.checkpoint(one, kind), stack.checkpoint(other, kind)
        assert first.step == second.step
        assert first.weights.sha256 == second.weights.sha256
        weights, others = load(stack.content(first)), load(stack.content(second))
        assert {name: array.tobytes() for name, array in weights.items()} == {
            name: array.tobytes() for name, array in others.items()
        }


def _stack(make_stack, database_url):
    stack = make_stack(database_url)
    stack.start_warm("relay", "worker-1", "worker-2")
    return stack


def _undisturbed(stack, spec):
    experiment = stack.submit(spec)
    assert stack.await_state(experiment).state == "succeeded"
    assert stack.series(experiment)["train/loss"][0] == list(range(1, spec["train"]["steps"] + 1))
    return experiment


def _disturbed(stack, spec, disturb):
    """An experiment that was disturbed in its middle; one that was through before is tried again."""
    for _ in range(_TRIES):
        experiment = stack.submit(spec)
        if _is_seen_at(stack, experiment, 1, 720):
            # Gone, where it is through by now.
            with contextlib.suppress(psutil.NoSuchProcess):
                disturb(stack, experiment)
        if stack.await_state(experiment).attempt > 1:
            return experiment
    raise AssertionError(f"{_TRIES} runs were through before they could be disturbed")


def _disturbed_again_and_again(stack, spec):
    """An experiment that was disturbed three times; None if it was through before that."""
    experiment, gone = stack.submit(spec), None
    for attempt, (step, disturb) in enumerate(
        # Not started again: meanwhile the other worker would be through.
        ((150, _kill_trainer), (300, _terminate_for_good), (450, _kill_worker)),
        start=1,
    ):
        if not _is_seen_at(stack, experiment, attempt, step):
            break
        try:
            gone = disturb(stack, experiment) or gone
        except psutil.NoSuchProcess:
            break  # it was through a moment later
    if stack.await_state(experiment).attempt == 4:
        return experiment
    if gone is not None:
        stack.start(gone)
    return None


def _is_seen_at(stack, experiment, attempt, step):
    """Whether it could be seen at that step before it was through."""
    seen = []

    def reached():
        seen.append(stack.experiment(experiment))
        return seen[-1].state == "succeeded" or (seen[-1].attempt >= attempt and seen[-1].step >= step)

    stack.until(f"{experiment} at step {step}", reached)
    return seen[-1].state == "running"


@pytest.mark.system
def test_each_disturbed_run_ends_bit_for_bit_like_the_undisturbed_one(make_stack, sqlite_url, specs):
    stack, spec = _stack(make_stack, sqlite_url), specs["mlp"]
    undisturbed = _undisturbed(stack, spec)
    for disturb, restarts, kind in (
        (_kill_trainer, 1, "restarted"),
        (_kill_worker, 1, "restarted"),
        (_kill_both, 1, "restarted"),
        (_terminate_worker, 0, "released"),
    ):
        experiment = _disturbed(stack, spec, disturb)
        row = stack.await_state(experiment)
        assert (row.state, row.restarts, row.attempt) == ("succeeded", restarts, 2), disturb.__name__
        assert (1, kind) in stack.events(experiment)
        _assert_equal_runs(stack, experiment, undisturbed)


def test_a_run_disturbed_again_and_again_ends_bit_for_bit_like_the_undisturbed_one(make_stack, postgresql_url, specs):
    stack, spec = _stack(make_stack, postgresql_url), specs["cnn"]
    undisturbed = _undisturbed(stack, spec)
    # A run may be through before this process, which others keep waiting, has seen it at a step.
    experiment = next(filter(None, (_disturbed_again_and_again(stack, spec) for _ in range(_TRIES))))
    row = stack.await_state(experiment)
    assert (row.state, row.restarts, row.attempt) == ("succeeded", 2, 4)
    _assert_equal_runs(stack, experiment, undisturbed)
