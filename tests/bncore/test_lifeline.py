"""A child notices the end of its parent, however the parent ended."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bncore.lifeline import allow, exit_on_eof, exit_on_silence

CHILD = """
import os, time
from bncore.lifeline import exit_on_eof
exit_on_eof(0, lambda: os._exit(7))
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
time.sleep(600)
"""


def test_the_end_of_the_pipe_is_told_once_and_what_is_written_is_ignored() -> None:
    read_end, write_end = os.pipe()
    ended = threading.Event()
    thread = exit_on_eof(read_end, ended.set)
    os.write(write_end, b"anything")
    assert not ended.wait(0.05)
    os.close(write_end)
    assert ended.wait(60)
    thread.join(60)
    os.close(read_end)


def test_it_lives_by_what_it_is_allowed_and_from_then_on_only_so() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    ended = threading.Event()
    thread = exit_on_silence(read_end, ended.set)
    assert not ended.wait(0.1)
    allow(write_end, 0.01)
    assert ended.wait(60)
    thread.join(60)
    os.close(read_end)
    allow(write_end, 1.0)  # nobody need read it
    os.close(write_end)


def test_of_several_allowances_the_last_one_counts() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for _ in range(2000):  # more than is read at once
        allow(write_end, 0.0)
    allow(write_end, 600.0)
    ended = threading.Event()
    thread = exit_on_silence(read_end, ended.set)
    assert not ended.wait(0.2)
    allow(write_end, 0.01)
    assert ended.wait(60)
    thread.join(60)
    os.close(read_end)
    os.close(write_end)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child: Linux")
def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
        # Readable as soon as the process has ended, be it reaped or not.
        ended, _, _ = select.select([child], [], [], 60)
        os.close(child)
        assert ended


STOPPED_CHILD = """
import os, signal
from bncore.lifeline import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped process stays")
def test_a_stopped_child_dies_with_a_parent_that_was_killed() -> None:
    parent_code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STOPPED_CHILD!r}])"
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        child = os.pidfd_open(pid)
        while "(stopped)" not in Path(f"/proc/{pid}/status").read_text():
            time.sleep(0.001)
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
        ended, _, _ = select.select([child], [], [], 60)
        os.close(child)
        assert ended
