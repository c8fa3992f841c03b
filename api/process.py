"""The API process: serve on BNLAB_HOST and BNLAB_PORT until SIGTERM, SIGINT or the parent's end.

Exit codes: 0 asked to end, 1 the end had to be forced, 3 could not start (for example a port in use).
Invariant: whichever way the end was asked for, the process is gone when its grace is over: a thread that stands in a
database which does not answer cannot be interrupted, the process can.
"""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

from api import logs
from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from bncore.lifeline import exit_on_eof

START_FAILED = 3
_HARD_EXIT_MARGIN_SECONDS = 5.0


def main() -> int:
    """Run the service; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes the signals over while it serves and raises them again afterwards: that end is a good one.
        signal.signal(number, _end)
    settings = ApiSettings()
    logs.configure(settings.log_format)
    hard_exit = _HardExit(settings.graceful_shutdown_seconds + _HARD_EXIT_MARGIN_SECONDS)
    server = Server(create_app(settings), ending=hard_exit.arm)
    if settings.exit_on_eof:
        exit_on_eof(sys.stdin.fileno(), server.stop)
    server.run()
    return 0 if server.started else START_FAILED


class _HardExit:
    """Ends the process a while after it was first armed."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, os._exit, args=(1,))
        self._timer.daemon = True

    def arm(self) -> None:
        with contextlib.suppress(RuntimeError):  # it runs already
            self._timer.start()


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
