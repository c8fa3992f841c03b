"""A waiting process that was killed is let go of without a word."""

import os
import signal
import threading

import pytest

from worker.trainer_process import Terms
from worker.zygote import Zygote

_SECONDS = 180.0


@pytest.mark.parametrize("has_a_job", [False, True])
def test_one_that_was_killed_can_be_let_go_of(tmp_path, has_a_job):
    ended = threading.Event()
    zygote = Zygote(tmp_path / "zygote.log", "cpu", lambda: None, ended.set)
    # Long before it reads anything: what it was sent is lost, and the connection reset.
    trainer = zygote.train(tmp_path, tmp_path / "trainer.log", Terms(ended.set, ended.set)) if has_a_job else None
    os.kill(zygote.pid, signal.SIGKILL)
    assert ended.wait(_SECONDS)
    zygote.close()
    if trainer is not None:
        trainer.close()
    assert zygote.spent
    for thread in threading.enumerate():
        if thread.name == "zygote-ready":
            thread.join(_SECONDS)
