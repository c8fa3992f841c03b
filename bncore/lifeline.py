"""A pipe held by the parent, so that a child never outlives it.

The kernel closes a dead process's end of a pipe however it died; nothing else (signals, atexit, pid files) survives
`kill -9`. The parent keeps the write end open and says nothing; at end of file the child goes.
"""

import os
import threading
from collections.abc import Callable


def exit_on_eof(fd: int, on_eof: Callable[[], None]) -> threading.Thread:
    """Start a daemon thread that reads `fd` until end of file and then calls `on_eof` once.

    Whatever is read is thrown away. An error while reading counts as the end: a pipe that cannot be read cannot tell.
    """
    thread = threading.Thread(target=_watch, args=(fd, on_eof), name="lifeline", daemon=True)
    thread.start()
    return thread


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
