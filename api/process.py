"""The API process: serve on BNLAB_HOST and BNLAB_PORT until SIGTERM, SIGINT or the parent's end.

Exit codes: 0 asked to end, 1 the end had to be forced, 3 could not start (for example a port in use).
"""

import signal
import sys
from types import FrameType

from api import logs
from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from bncore.lifeline import exit_on_eof

START_FAILED = 3


def main() -> int:
    """Run the service; the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes the signals over while it serves and raises them again afterwards: that end is a good one.
        signal.signal(number, _end)
    settings = ApiSettings()
    logs.configure(settings.log_format)
    server = Server(create_app(settings))
    if settings.exit_on_eof:
        exit_on_eof(sys.stdin.fileno(), server.stop)
    server.run()
    return 0 if server.started else START_FAILED


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
