"""One process that serves: alone on its port, or with siblings on a socket that their parent has bound.

Invariant: a process that has a parent is gone when the parent is, even if it is stopped.
"""

import socket
import sys
from collections.abc import Callable

from api.app import create_app
from api.server import Server
from api.settings import ApiSettings
from api.siblings import START_FAILED
from bncore.lifeline import die_with_parent, exit_on_eof


def serve(settings: ApiSettings, ending: Callable[[], object]) -> int:
    """Until told to go; the exit code. `ending` is called as soon as the end is asked for."""
    is_sibling = bool(settings.api_sockets)
    if is_sibling:
        die_with_parent()
        settings = _share(settings)
    server = Server(create_app(settings), ending=ending)
    if settings.exit_on_eof or is_sibling:
        exit_on_eof(sys.stdin.fileno(), server.stop)
    server.run([socket.socket(fileno=number) for number in settings.api_sockets] or None)
    return 0 if server.started else START_FAILED


def _share(settings: ApiSettings) -> ApiSettings:
    """Whoever guesses keys meets any of the siblings: together they allow what one would."""
    guesses = settings.failed_keys_per_minute
    share = max(1, guesses // settings.api_processes) if guesses else 0
    return settings.model_copy(update={"failed_keys_per_minute": share})
