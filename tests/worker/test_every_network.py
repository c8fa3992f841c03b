"""Every network through the real service: its trainer is killed, and the run ends as one that nobody disturbed."""

import contextlib
import itertools
import os
import signal
import time

import pytest
from safetensors.numpy import load

from tests.network_specs import KINDS, NORMS, small_spec

STEPS = 100
TRIES = 20

# Two runs of each network one after the other, and for each a trainer that starts anew.
pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def spec_of(kind):
    train = {"steps": STEPS, "batch_size": 20}
    return small_spec(kind, NORMS[kind][0], train=train, checkpoint={"every_steps": 10, "keep_best": False})


def kill_behind_a_checkpoint(stack, spec):
    """An experiment whose trainer got SIGKILL in the middle; a run that was through before is tried again."""
    for _ in range(TRIES):
        experiment = stack.submit(spec)
        trainer = await_checkpoint(stack, experiment)
        if trainer is None:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGKILL)
        if stack.await_state(experiment).attempt == 2:
            return experiment
    raise AssertionError(f"{TRIES} runs were through before they could be killed")


def await_checkpoint(stack, experiment):
    """The process that trains, once it has saved; None if it is through. Looked for as quickly as it may be over."""
    saved = stack.directory / "runs" / experiment / "1" / "checkpoints" / "last-000000010.safetensors"
    deadline = time.monotonic() + 180
    for look in itertools.count():
        if saved.exists():
            break
        assert time.monotonic() < deadline
        if look % 500 == 499 and stack.experiment(experiment).state == "succeeded":
            return None
        time.sleep(0.001)
    lines = [line for line in stack.log("worker") if line["event"] == "training"]
    return next((line["pid"] for line in lines if line["experiment_id"] == experiment), None)


def test_each_network_is_killed_and_ends_with_the_bits_of_one_that_was_not(small_stack):
    undisturbed = {kind: small_stack.submit(spec_of(kind)) for kind in KINDS}
    for kind, experiment in undisturbed.items():
        assert small_stack.await_state(experiment).state == "succeeded", kind
    for kind, other in undisturbed.items():
        killed = kill_behind_a_checkpoint(small_stack, spec_of(kind))
        assert str(small_stack.series(killed)) == str(small_stack.series(other)), kind
        ends = [small_stack.checkpoint(one) for one in (killed, other)]
        assert ends[0].step == ends[1].step == STEPS
        assert ends[0].weights.sha256 == ends[1].weights.sha256, kind
        # The file also says how long it took: its tensors are what has to be the same.
        states = [load(small_stack.content(one, "state")) for one in ends]
        assert states[0].keys() == states[1].keys()
        assert all(value.tobytes() == states[1][name].tobytes() for name, value in states[0].items()), kind
