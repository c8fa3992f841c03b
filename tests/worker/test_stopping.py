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
from worker.stopping import Limits, Stopping
from worker.trainer_process import Terms, TrainerProcess


@contextmanager
def _trainer(was_ready):
    """A process that heeds nothing, where a trainer would be."""
    process = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"], start_new_session=True)
    lifeline_read, lifeline = os.pipe()
    bell, bell_write = os.pipe()
    trainer = TrainerProcess(
        ChildProcess(process.pid, process.wait),
        Terms(on_end=lambda: None, on_news=lambda: None),
        lifeline=lifeline,
        bell=bell,
        logs=[],
        was_ready=was_ready,
    )
    try:
        yield trainer
    finally:
        trainer.kill()
        trainer.close()
        os.close(lifeline_read)
        os.close(bell_write)


def _stopping(shutdown, limits):
    return Stopping(shutdown, limits, renewed_at=time.monotonic, silent_seconds=lambda: math.inf)


def test_what_is_being_killed_is_not_killed_again_and_again():
    shutdown = threading.Event()
    stopping = _stopping(shutdown, Limits(grace=0.0, lease=60.0))
    with _trainer(lambda: True) as trainer, capture_logs() as lines:
        stopping.watch(trainer)
        shutdown.set()
        for _ in range(3):
            stopping.look()
    assert [line["event"] for line in lines].count("trainer_killed") == 1


@pytest.mark.parametrize(("ready", "reason"), [(False, None), (True, "stall")])
def test_only_a_trainer_that_has_warmed_up_can_stall(ready, reason):
    stopping = _stopping(threading.Event(), Limits(grace=0.0, lease=60.0, stall=0.0))
    with _trainer(lambda: ready) as trainer:
        stopping.watch(trainer)
        stopping.look()
        assert stopping.reason == reason
