"""A waiting process takes jobs: it forks a trainer for each, or becomes one where a fork would not be whole.

What is warmed up and trained here is a line of Python, so that a test takes no import of torch.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bncore import hand_over
from bncore.hand_over import READY, READY_TO_FORK, Job
from bncore.run_directory import EXIT_ALONE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")

SECONDS = 120.0
PROGRAM = """
import os, random, sys, tempfile, threading, time, uuid
from bncore import hand_over, zygote
from bncore.stop_request import StopRequest
stop = StopRequest()
job = zygote.serve(stop, lambda: exec(sys.argv[1]))
if job is None:
    os._exit(3)
exec(sys.argv[2])
sys.stdout.flush()
os._exit(5)
"""
SLEEP = "time.sleep(600)"


@dataclass
class Trainer:
    lifeline: int
    bell: int
    log: Path

    def pid(self) -> int | None:
        return hand_over.read_pid(self.bell, SECONDS)

    def await_end(self) -> str:
        """What it printed; the bell is only its own, so that its end is the end of the bell."""
        while select.select([self.bell], [], [], SECONDS)[0]:
            if not os.read(self.bell, 100):
                return self.log.read_text()
        raise AssertionError("it did not end")


class Zygote:
    def __init__(self, folder: Path, warm_up: str, train: str) -> None:
        self._folder = folder
        self._count = 0
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(SECONDS)
        command = [sys.executable, "-P", "-c", PROGRAM, warm_up, train]
        with theirs:
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True)

    def hand_over(self, *, fork: bool = True) -> Trainer:
        self._count += 1
        log = self._folder / f"{self._count}.log"
        lifeline_read, lifeline = os.pipe()
        bell, bell_write = os.pipe()
        job = Job(self._folder, fork, lifeline_read, bell_write, os.open(log, os.O_CREAT | os.O_WRONLY))
        hand_over.send(self.channel, job)
        job.close()
        return Trainer(lifeline, bell, log)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Zygote]]:
    with ExitStack() as stack:

        def make(*, warm_up: str = "", train: str = "") -> Zygote:
            zygote = Zygote(tmp_path, warm_up, train)
            stack.callback(zygote.channel.close)
            stack.callback(zygote.process.wait)
            stack.callback(zygote.process.kill)
            return zygote

        yield make


def test_it_forks_a_trainer_a_job_which_has_its_own_session_and_nothing_of_ours_open(start):
    zygote = start(train=SLEEP)
    assert zygote.channel.recv(100) == READY_TO_FORK
    older, younger = zygote.hand_over(), zygote.hand_over()
    pids = [older.pid(), younger.pid()]
    assert zygote.process.pid not in pids
    for pid in pids:
        trainer = psutil.Process(pid)
        assert os.getsid(pid) == pid
        assert trainer.ppid() != zygote.process.pid
        assert [Path(f"/proc/{pid}/fd/{end}").exists() for end in (0, 1, 2)] == [True] * 3
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 4  # and the bell
    # The older goes by its lifeline, though the younger was forked from what once held that.
    os.close(older.lifeline)
    older.await_end()
    assert select.select([younger.bell], [], [], 0)[0] == []
    os.close(younger.lifeline)
    younger.await_end()
    children = psutil.Process(zygote.process.pid).children
    # The one between it and the younger may be dead and not yet buried.
    while left := children():
        psutil.wait_procs(left, timeout=0.01)


def test_siblings_draw_different_names_and_numbers(start):
    zygote = start(
        warm_up="random.random(), tempfile.mkdtemp(), uuid.uuid4()",
        train="print(random.random()), print(uuid.uuid4()), print(next(tempfile._get_candidate_names()))",
    )
    assert zygote.channel.recv(100) == READY_TO_FORK
    words = [zygote.hand_over().await_end().split() for _ in range(2)]
    assert all(len(said) == 3 for said in words)
    assert not set(words[0]) & set(words[1])


def test_with_a_second_thread_it_does_not_fork_but_trains_itself(start):
    thread = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    zygote = start(warm_up=thread, train="print('mine')")
    assert zygote.channel.recv(100) == READY
    trainer = zygote.hand_over()
    assert trainer.pid() == zygote.process.pid
    assert trainer.await_end() == "mine\n"
    assert zygote.process.wait(SECONDS) == 5


def test_told_not_to_fork_it_trains_itself_and_keeps_a_job_that_came_before_it_was_ready(start):
    zygote = start(warm_up="time.sleep(0.1)", train="print(os.getpid())")
    trainer = zygote.hand_over(fork=False)
    assert trainer.pid() == zygote.process.pid
    assert trainer.await_end() == f"{zygote.process.pid}\n"


def test_its_end_is_no_end_of_its_trainers(start):
    zygote = start(train="time.sleep(0.2); hand_over.ring(job); print('done')")
    assert zygote.channel.recv(100) == READY_TO_FORK
    trainer = zygote.hand_over()
    assert trainer.pid() is not None
    zygote.process.kill()
    zygote.process.wait()
    assert os.read(trainer.bell, 10) == b"."
    assert trainer.await_end() == "done\n"


@pytest.mark.parametrize("when", ["while it warms up", "when it is ready"])
def test_nobody_left_to_work_for_it_goes(start, when):
    zygote = start(warm_up=SLEEP if when == "while it warms up" else "")
    if when == "when it is ready":
        assert zygote.channel.recv(100) == READY_TO_FORK
    zygote.channel.close()
    assert zygote.process.wait(SECONDS) in (EXIT_ALONE, 3)


@pytest.mark.parametrize("when", ["while it warms up", "when it is ready"])
def test_told_to_go_it_goes_and_takes_no_job_that_nobody_would_do(start, when):
    zygote = start(warm_up="os.write(0, b'warming'); " + (SLEEP if when == "while it warms up" else ""))
    assert zygote.channel.recv(7) == b"warming"
    if when == "when it is ready":
        assert zygote.channel.recv(100) == READY_TO_FORK
    zygote.process.send_signal(signal.SIGTERM)
    assert zygote.process.wait(SECONDS) in (0, 3)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        zygote.hand_over()


@pytest.mark.parametrize("fork", [True, False])
def test_told_to_go_with_a_job_before_it_the_trainer_knows_that_it_has_to_stop(start, fork):
    warm_up = "os.write(0, b'warming')\nwhile not stop.asked: time.sleep(0.01)"
    zygote = start(warm_up=warm_up, train="print(stop.asked)")
    assert zygote.channel.recv(7) == b"warming"
    trainer = zygote.hand_over(fork=fork)
    zygote.process.send_signal(signal.SIGTERM)
    assert trainer.await_end() == "True\n"
    assert zygote.process.wait(SECONDS) == (3 if fork else 5)


def test_a_trainer_hears_a_signal_of_its_own_and_the_others_do_not(start, tmp_path):
    go = tmp_path / "go"
    over = f"stop.asked or os.path.exists({str(go)!r})"
    zygote = start(train=f"hand_over.ring(job)\nwhile not ({over}): time.sleep(0.01)\nprint(stop.asked)")
    assert zygote.channel.recv(100) == READY_TO_FORK
    asked, other = zygote.hand_over(), zygote.hand_over()
    os.kill(asked.pid(), signal.SIGTERM)
    assert asked.await_end() == "True\n"
    go.touch()
    assert other.await_end() == "False\n"
    assert zygote.process.poll() is None
