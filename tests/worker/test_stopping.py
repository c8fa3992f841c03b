"""When a trainer is told to stop, and when it is killed."""

import math
import os
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from worker.child_process import ChildProcess
from worker.stopping import Stopping
from worker.trainer_process import TrainerProcess


@contextmanager
def _trainer(was_ready):
    """A process that heeds nothing, where a trainer would be."""
    process = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"], start_new_session=True)
    lifeline_read, lifeline = os.pipe()
    bell, bell_write = os.pipe()
    trainer = TrainerProcess(
        ChildProcess(process.pid, process.wait),
        lifeline=lifeline,
        bell=bell,
        logs=[],
        was_ready=was_ready,
        on_end=lambda: None,
        on_news=lambda: None,
    )
    try:
        yield trainer
    finally:
        trainer.kill()
        trainer.close()
        os.close(lifeline_read)
        os.close(bell_write)


def _stopping(shutdown=None, grace_seconds=0.0, stall_seconds=None, silent_seconds=lambda: 0.0):
    return Stopping(
        shutdown or threading.Event(),
        grace_seconds=grace_seconds,
        seconds_left=None,
        stall_seconds=stall_seconds,
        silent_seconds=silent_seconds,
    )


def test_what_is_being_killed_is_not_killed_again_and_again():
    shutdown = threading.Event()
    stopping = _stopping(shutdown)
    with _trainer(lambda: True) as trainer, capture_logs() as lines:
        stopping.watch(trainer)
        shutdown.set()
        for _ in range(3):
            stopping.look()
        # Nothing to come back for: its end will wake whoever waits.
        assert stopping.next_look() == math.inf
    assert [line["event"] for line in lines].count("trainer_killed") == 1


@pytest.mark.parametrize(("ready", "reason"), [(False, None), (True, "stall")])
def test_only_a_trainer_that_has_warmed_up_can_stall(ready, reason):
    stopping = _stopping(stall_seconds=1.0, silent_seconds=lambda: 5.0)
    with _trainer(lambda: ready) as trainer:
        stopping.watch(trainer)
        stopping.look()
        assert stopping.reason == reason


def test_silence_counts_from_the_end_of_warming_up():
    ready = threading.Event()
    stopping = _stopping(stall_seconds=100.0, silent_seconds=lambda: 250.0)
    with _trainer(ready.is_set) as trainer:
        stopping.watch(trainer)
        stopping.look()
        ready.set()
        stopping.look()
        assert stopping.reason is None
        assert stopping.next_look() == pytest.approx(time.monotonic() + 100.0, abs=5.0)
