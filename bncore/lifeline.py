"""A pipe held by the parent, so that a child never outlives it.

The kernel closes a dead process's end of a pipe however it died; nothing else (signals, atexit, pid files) survives
`kill -9`. The parent keeps the write end open and says nothing; at end of file the child goes.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def exit_on_eof(fd: int, on_eof: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread that reads `fd` until end of file and then calls `on_eof` once.

    Whatever is read is thrown away. An error while reading counts as the end: a pipe that cannot be read cannot tell.
    """
    thread = threading.Thread(target=_watch, args=(fd, on_eof), name="lifeline", daemon=True)
    thread.start()
    return thread


def exit_on_signals() -> None:
    """From now on SIGTERM, SIGINT and SIGHUP end this process at once, with code 0: it holds nothing yet."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: os._exit(0))


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that is its parent ends. Linux only; elsewhere nothing happens.

    A process that was stopped reads no end of file, and would stay, with every lock it holds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def exit_within(seconds: float, code: int = 1) -> None:
    """End this process that much later, if it is still there, whatever its threads hang in. Returns at once."""
    timer = threading.Timer(seconds, os._exit, args=(code,))
    timer.daemon = True
    timer.start()


def _watch(fd: int, on_eof: Callable[[], None]) -> None:
    try:
        while os.read(fd, 4096):
            continue
    finally:
        on_eof()
