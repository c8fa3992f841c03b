"""The trainer as a process of its own: killed, stopped, kept out. How a worker has one is in `tests/worker`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bncore.train import run_attempt
from bncore.train.run_directory import RunDirectoryUsed

MLP = {"kind": "mlp", "hidden": [32, 32], "activation": "sigmoid", "dropout": 0.2}
CNN = {"kind": "cnn", "channels": [4, 8]}
LONG = {"network": MLP, "train": {"steps": 1_000_000}, "checkpoint": {"every_steps": 1_000_000}}
DEADLINE_SECONDS = 300.0
ENOUGH_TRIES = 5

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python -m bncore`; whatever is left is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start_one(*arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "bncore", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Look again and again: a file that grows cannot be waited for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        # In this order: what it did last is there once it has ended.
        over = process.poll() is not None
        if holds():
            return
        assert not over, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def has(run: Any, kind: str, count: int = 1) -> Callable[[], bool]:
    return lambda: sum(event.kind == kind for event in run.whole_events()) >= count


@pytest.mark.parametrize(
    ("network", "optimizer", "steps", "batch_size"),
    [
        # What the quick test of a process that is asked to stop has as well.
        pytest.param(MLP, {"kind": "sgd", "lr": 0.1, "momentum": 0.9}, 1500, 60, marks=pytest.mark.slow),
        pytest.param(CNN, {"kind": "adam"}, 500, 70, marks=pytest.mark.system),
    ],
    ids=["mlp with dropout, sgd with momentum", "cnn, adam"],
)
def test_killed_in_mid_epoch_and_resumed_it_ends_bit_identical(
    runs: Any, start: Start, network: dict[str, Any], optimizer: dict[str, Any], steps: int, batch_size: int
) -> None:
    spec = {
        "network": network,
        "optimizer": optimizer,
        "train": {"steps": steps, "batch_size": batch_size},
        "evaluation": {"every_steps": 50},
        # No multiple of an epoch's steps, which are 20 and 18.
        "checkpoint": {"every_steps": 47, "keep_best": False},
    }
    whole = runs.train(spec)
    # On a busy machine it may be through before it is killed.
    for _ in range(ENOUGH_TRIES):
        killed = runs.prepare(spec)
        process = start(killed.path)
        wait_until(has(killed, "checkpoint", 2), process)
        process.kill()
        if process.wait() != 0:
            break
    assert process.wait() == -signal.SIGKILL
    saved = [event for event in killed.whole_events() if event.kind == "checkpoint"][-1].step
    assert saved < steps
    resumed = runs.train(spec, after=killed, step=saved)
    runs.assert_continued(whole, resumed, saved, before=killed)


def test_asked_to_stop_it_saves_and_can_go_on(runs: Any, start: Start) -> None:
    spec = {
        "network": MLP,
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
        "train": {"steps": 2000},
        "checkpoint": {"every_steps": 5000},
    }
    # On a busy machine it may be through before it is asked.
    for _ in range(ENOUGH_TRIES):
        stopped = runs.prepare(spec)
        process = start(stopped.path)
        wait_until(has(stopped, "first_step"), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        if stopped.events[-1].kind != "finished":
            break
    saved, last = stopped.events[-2:]
    assert (saved.kind, last.kind) == ("checkpoint", "stopped")
    assert saved.step == last.step < 2000
    resumed = runs.train(spec, after=stopped, step=last.step)
    runs.assert_continued(runs.train(spec), resumed, last.step, before=stopped)


def test_stopped_before_training_it_saves_nothing(runs: Any, start: Start) -> None:
    run = runs.prepare(LONG)
    process = start(run.path)
    wait_until((run.path / "lock").exists, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert run.events[-1].kind == "stopped"
    # The signal may come a few steps late, but never without an answer.
    assert len(run.checkpoints("last")) == (run.events[-1].step > 0)


def test_it_keeps_others_out_of_its_directory(runs: Any, start: Start) -> None:
    run = runs.prepare(LONG)
    first = start(run.path)
    wait_until(has(run, "first_step"), first)
    second = start(run.path)
    assert second.wait(DEADLINE_SECONDS) == 73
    assert b"is being trained by another process" in second.stderr.read()
    first.kill()
    assert run.whole_events()[-1].kind not in ("finished", "stopped", "failed")


def test_a_slip_in_the_spec_is_said_and_does_not_use_up_the_directory(runs: Any, start: Start) -> None:
    run = runs.prepare({"train": {"batch_size": 0}})
    process = start(run.path)
    assert process.wait(DEADLINE_SECONDS) == 1
    assert b"spec.json: /train/batch_size: " in process.stderr.read()
    assert [entry.name for entry in run.path.iterdir()] == ["spec.json"]


def test_a_spec_of_a_worker_that_it_cannot_train_fails_with_an_event(runs: Any) -> None:
    run = runs.prepare({"train": {"batch_size": 0}})
    runs.attempt(run)
    assert run.events[-1].message.startswith("SpecError: /train/batch_size")


def test_a_directory_that_holds_an_attempt_is_left_alone(runs: Any) -> None:
    run = runs.train({"network": MLP, "train": {"steps": 2}})
    before = (run.path / "events.jsonl").read_bytes()
    with pytest.raises(RunDirectoryUsed, match="already holds an attempt"):
        run_attempt(run.path)
    assert (run.path / "events.jsonl").read_bytes() == before
