"""A child notices the end of its parent, however the parent ended."""

import os
import signal
import subprocess
import sys
import threading

from bncore.lifeline import exit_on_eof

CHILD = """
import os, time
from bncore.lifeline import exit_on_eof
exit_on_eof(0, lambda: os._exit(7))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
time.sleep(60)
"""


def test_the_end_of_the_pipe_is_told_once_and_what_is_written_is_ignored() -> None:
    read_end, write_end = os.pipe()
    ended = threading.Event()
    thread = exit_on_eof(read_end, ended.set)
    os.write(write_end, b"anything")
    assert not ended.wait(0.05)
    os.close(write_end)
    assert ended.wait(10)
    thread.join(10)
    os.close(read_end)


def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        # The child holds the other end of this pipe: it reads empty once the child is gone too.
        assert parent.stdout.read() == ""
    try:
        os.kill(child, 0)
    except ProcessLookupError:
        return
    with open(f"/proc/{child}/stat") as stat:
        assert stat.read().split()[2] == "Z"
