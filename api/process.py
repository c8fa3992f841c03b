"""The API: serve on BNLAB_HOST and BNLAB_PORT until SIGTERM, SIGINT or the parent's end, in one process or several.

Exit codes: 0 asked to end, 1 the end had to be forced, 2 wrong settings, 3 could not start (for example a port in use).
Invariant: whichever way the end was asked for, the process is gone when its grace is over: a thread that stands in a
database which does not answer cannot be interrupted, the process can.
"""

import functools
import signal
import sys
from types import FrameType

from api import logs, siblings
from api.settings import ApiSettings
from bncore.garbage import uncollected
from bncore.lifeline import exit_within
from store.settings import from_environment

_HARD_EXIT_MARGIN_SECONDS = 5.0


def main() -> int:
    """Run the service; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Whoever serves takes the signals over, and raises them again afterwards: that end is a good one.
        signal.signal(number, _end)
    settings = from_environment(ApiSettings)
    logs.configure(settings.log_format)
    # Once, however often and in whatever ways the end is asked for.
    hard_exit = functools.cache(
        functools.partial(exit_within, settings.graceful_shutdown_seconds + _HARD_EXIT_MARGIN_SECONDS)
    )
    if settings.api_processes > 1 and not settings.api_sockets:
        return siblings.run(settings, hard_exit)
    # The parent of several serves nothing and needs none of it.
    with uncollected():
        from api.serving import serve

    return serve(settings, hard_exit)


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
