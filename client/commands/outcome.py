"""How a command ends: an exit code that scripts can rely on, and a reason on standard error."""

import errno
import functools
from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, ParamSpec, TypeVar

import typer

from bncore.spec import Fault, SpecError
from client.commands.output import complain
from client.errors import ApiError, ClientError, DownloadMismatch, InvalidSetting, Unreachable, WaitTimeout
from client.printable import one_line

P = ParamSpec("P")
R = TypeVar("R")

EXIT_CODES = (
    "Exit codes: 0 done; 1 the experiment ended as failed or cancelled; 2 wrong usage; 3 spec or request refused; "
    "4 server not reached, failing, or the key refused; 5 not ended in the time given; 130 interrupted."
)


class Exit(IntEnum):
    OK = 0
    ENDED_BADLY = 1
    USAGE = 2
    REFUSED = 3
    NO_SERVER = 4
    TIMEOUT = 5
    INTERRUPTED = 130


def leave(code: Exit, text: str | None = None) -> NoReturn:
    """End the command."""
    if text:
        complain(text)
    raise typer.Exit(int(code))


def describe(faults: list[Fault], place_of: Callable[[str], str | None] = lambda _: None) -> str:
    """Faults, one a line: where, and what would be right."""
    lines = []
    for fault in faults:
        place = place_of(fault.pointer)
        where = one_line(fault.pointer) or "(whole document)"
        detail = one_line(fault.detail)
        lines.append(f"  {where}{f' ({place})' if place and '(line' not in detail else ''}: {detail}")
    return "\n".join(lines)


def file_trouble(error: OSError) -> str:
    """What the system said of which file, on one line."""
    where = f"{one_line(str(error.filename))}: " if error.filename is not None else ""
    return f"{where}{error.strerror or one_line(str(error))}"


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what `client` raises into a message and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (SpecError, ClientError) as error:
            leave(*_verdict(error))
        except OSError as error:
            # A reader that has gone, as in `bnlab list | head`, is no news; whoever runs the command deals with it.
            if error.errno == errno.EPIPE:
                raise
            leave(Exit.REFUSED, file_trouble(error))
        except KeyboardInterrupt:
            leave(Exit.INTERRUPTED)

    return run


def _verdict(error: Exception) -> tuple[Exit, str]:
    match error:
        case SpecError():
            return Exit.REFUSED, f"the spec is not valid\n{describe(error.faults)}"
        case InvalidSetting():
            return Exit.USAGE, str(error)
        case ApiError():
            return _code(error), str(error) + _advice(error)
        case Unreachable():
            return Exit.NO_SERVER, f"{error}\nStart a local server with `bnlab up`, or set BNLAB_URL."
        case DownloadMismatch():
            return Exit.NO_SERVER, str(error)
        case WaitTimeout():
            return Exit.TIMEOUT, str(error)
        case _:
            return Exit.REFUSED, str(error)


def _code(error: ApiError) -> Exit:
    # A quota that waiting does not mend is a 403 too, and says nothing against the key.
    key_refused = error.status in (401, 403) and error.problem.get("code") != "quota_exceeded"
    return Exit.NO_SERVER if key_refused or error.status >= 500 else Exit.REFUSED


def _advice(error: ApiError) -> str:
    if error.status != 401:
        return ""
    return (
        "\nSet BNLAB_API_KEY to a key of this server; `bnlab up` prints the line that does it for its own. Where it "
        "was started with a data directory of its own, BNLAB_DATA_DIR set to that finds its key as well."
    )
