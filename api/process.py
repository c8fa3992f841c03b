"""The API process: serve on BNLAB_HOST and BNLAB_PORT until SIGTERM, SIGINT or the parent's end.

Exit codes: 0 asked to end, 1 the end had to be forced, 3 could not start (for example a port in use).
Invariant: whichever way the end was asked for, the process is gone when its grace is over: a thread that stands in a
database which does not answer cannot be interrupted, the process can.
"""

import functools
import signal
import sys
from types import FrameType

from api import logs
from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from bncore.lifeline import exit_on_eof, exit_within

START_FAILED = 3
_HARD_EXIT_MARGIN_SECONDS = 5.0


def main() -> int:
    """Run the service; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes the signals over while it serves and raises them again afterwards: that end is a good one.
        signal.signal(number, _end)
    settings = ApiSettings()
    logs.configure(settings.log_format)
    # Once, however often and in whatever ways the end is asked for.
    hard_exit = functools.cache(
        functools.partial(exit_within, settings.graceful_shutdown_seconds + _HARD_EXIT_MARGIN_SECONDS)
    )
    server = Server(create_app(settings), ending=hard_exit)
    if settings.exit_on_eof:
        exit_on_eof(sys.stdin.fileno(), server.stop)
    server.run()
    return 0 if server.started else START_FAILED


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
