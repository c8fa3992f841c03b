"""A child process that leads a session of its own: signals meant for the worker do not reach it.

Invariant: its number is given back to the system, and may mean another process, only after it counts as ended here.
"""

import os
import signal
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class ChildProcess:
    """`reap` waits for the end and says how it came, as `subprocess` does: a code, or minus a signal."""

    def __init__(self, pid: int, reap: Callable[[], int]) -> None:
        self.pid = pid
        self._reap = reap
        self._returncode: int | None = None
        self._ended = threading.Event()
        self._changing = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        threading.Thread(target=self._await_end, name="child-end", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    @property
    def returncode(self) -> int | None:
        """None while it lives."""
        return self._returncode

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call it from another thread as soon as it has ended; at once, if it has."""
        with self._changing:
            if not self.ended:
                self._callbacks.append(callback)
                return
        callback()

    def await_end(self, seconds: float) -> bool:
        """Wait that long for its end; whether it came."""
        return self._ended.wait(seconds)

    def send_signal(self, number: signal.Signals) -> None:
        """To it alone; nothing happens when it has ended."""
        with self._changing:
            if not self.ended:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it and its children now."""
        with self._changing:
            if not self.ended:
                os.killpg(self.pid, signal.SIGKILL)

    def _await_end(self) -> None:
        # Not yet reaped, so that a signal in the meantime goes to nobody else. macOS has this from Python 3.13 on.
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._changing:
            self._returncode = self._reap()
            self._ended.set()
        for callback in self._callbacks:
            callback()
