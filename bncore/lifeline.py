"""A pipe held by the parent, so that a child never outlives it.

The kernel closes a dead process's end of a pipe however it died; nothing else (signals, atexit, pid files) survives
`kill -9`. The parent keeps the write end open; at end of file the child goes. A parent that is frozen closes nothing:
one whose child must not go on without it says again and again for how long the child may.
"""

import ctypes
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable

# Less than a pipe writes in one piece, and a divisor of what is read at once: never cut in two.
_ALLOWANCE = struct.Struct("<d")
_READ_BYTES = 4096
_PR_SET_PDEATHSIG = 1


def exit_on_eof(fd: int, on_eof: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread that reads `fd` until end of file and then calls `on_eof` once.

    Whatever is read is thrown away. An error while reading counts as the end: a pipe that cannot be read cannot tell.
    """
    return _start(_read_to_the_end, fd, on_eof)


def exit_on_silence(fd: int, on_silence: Callable[[], None]) -> threading.Thread:
    """As `exit_on_eof`, but what is read are allowances: it also ends when the last one has run out."""
    return _start(_read_allowances, fd, on_silence)


def allow(fd: int, seconds: float) -> None:
    """Say that the child may live for so long without another word. `fd` must not block; nobody need read it."""
    try:
        os.write(fd, _ALLOWANCE.pack(seconds))
    except (BlockingIOError, BrokenPipeError):
        return


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


def _start(read: Callable[[int], None], fd: int, on_end: Callable[[], None]) -> threading.Thread:
    def watch() -> None:
        try:
            read(fd)
        finally:
            on_end()

    thread = threading.Thread(target=watch, name="lifeline", daemon=True)
    thread.start()
    return thread


def _read_to_the_end(fd: int) -> None:
    while os.read(fd, _READ_BYTES):
        continue


def _read_allowances(fd: int) -> None:
    until: float | None = None
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        readable, _, _ = select.select([fd], [], [], left)
        words = os.read(fd, _READ_BYTES) if readable else b""
        if not words:
            return
        until = time.monotonic() + _ALLOWANCE.unpack(words[-_ALLOWANCE.size :])[0]
