"""How an attempt ended, and what follows from it.

Invariant: a run that finished its budget has succeeded, whatever was asked meanwhile; a failure that another try
would repeat is final, one that came from outside is a restart.
"""

import signal
from dataclasses import dataclass
from typing import Literal, assert_never

from sqlalchemy.orm import Session

from bncore.events import Event, Finished, Stopped
from bncore.events import Failed as TrainerFailed
from store import leases
from store.leases import Cancelled, Failed, Lease, Paused, Succeeded
from store.models import Experiment

Reason = Literal["cancel", "pause", "deadline", "shutdown"]
"""Why a trainer was asked to stop."""


@dataclass(frozen=True)
class Restart:
    """Try again, and count it."""

    code: Literal["trainer_killed", "worker_lost"]
    message: str


@dataclass(frozen=True)
class Release:
    """Hand it back: nothing went wrong."""


Ending = Succeeded | Failed | Cancelled | Paused | Restart | Release


@dataclass(frozen=True)
class Exit:
    """What is left of a trainer: its last event, its exit status, whether it ever was ready, its last words."""

    last_event: Event | None
    returncode: int
    was_ready: bool
    last_words: str


def judge(end: Exit, asked: Reason | None) -> Ending:
    """What the attempt comes to; `asked` is why it was told to stop, if it was."""
    match end.last_event:
        case Finished(stop_reason=stop_reason, summary=summary):
            return Succeeded(stop_reason, summary.model_dump())
        case TrainerFailed(code=code, message=message):
            return Failed(code, message)
        case Stopped() if asked is None:
            return Release()  # somebody else's SIGTERM; it has saved everything
        case _ if asked is not None:
            return _as_asked(asked)
        case _:
            return _died(end)


def commit(session: Session, lease: Lease, ending: Ending) -> Experiment:
    """Store it. Raises `StaleLease`."""
    match ending:
        case Restart(code, message):
            return leases.restart(session, lease, code, message)
        case Release():
            return leases.release(session, lease)
        case _:
            return leases.finish(session, lease, ending)


def _as_asked(reason: Reason) -> Ending:
    match reason:
        case "cancel":
            return Cancelled()
        case "pause":
            return Paused()
        case "deadline":
            return Failed("deadline", "The experiment took longer than deadline_seconds.")
        case "shutdown":
            return Release()
        case _:
            assert_never(reason)


def _died(end: Exit) -> Ending:
    if end.returncode < 0:
        name = signal.Signals(-end.returncode).name
        hint = ", perhaps by the kernel for want of memory" if name == "SIGKILL" else ""
        return Restart("trainer_killed", f"The trainer was killed by {name}{hint}.")
    words = f": {end.last_words}" if end.last_words else ", and said nothing."
    if not end.was_ready:
        return Restart("worker_lost", f"The trainer of this worker does not start{words}")
    return Failed("trainer_error", f"The trainer ended with exit code {end.returncode}{words}")
