"""How an attempt ended, and what follows from it.

Invariant: a job that is done has succeeded, whatever was asked meanwhile. Which failures are final and
which are restarts is said by their codes (`store.jobs.failures`).
"""

import signal
from dataclasses import dataclass
from typing import Literal, assert_never

from bncore.events import Concluded as JobConcluded
from bncore.events import Event, Finished, Stopped
from bncore.events import Failed as TrainerFailed
from bncore.events import Rested as TrainerRested
from bncore.run_directory import EXIT_ALONE, EXIT_BUSY, EXIT_DISK_FULL
from store.work import Cancelled, Concluded, Failed, Outcome, Paused, Released, Rested, Succeeded

Reason = Literal["cancel", "pause", "kill", "deadline", "stall", "shutdown"]
"""Why a trainer was told to stop."""


@dataclass(frozen=True)
class Exit:
    """What is left of a trainer: its last event, its exit status, whether it ever was ready, its last words."""

    last_event: Event | None
    returncode: int
    was_ready: bool
    last_words: str


def judge(end: Exit, asked: Reason | None) -> Outcome:
    """What the attempt comes to; `asked` is why it was told to stop, if it was."""
    match end.last_event:
        case Finished(stop_reason=stop_reason, summary=summary):
            return Succeeded(stop_reason, summary.model_dump())
        case JobConcluded(result=result):
            return Concluded(result)
        case TrainerFailed(code=code, message=message):
            return Failed(code, message)
        case TrainerRested(step=step) if asked not in ("cancel", "kill", "pause"):
            return Rested(step)  # it has come to where it was to come, whatever else would have stopped it
        case Stopped() if asked is None:
            return Released()  # somebody else's SIGTERM; it has saved everything
        case _ if asked is not None:
            return _as_asked(asked)
        case _:
            return _died(end)


def _as_asked(reason: Reason) -> Outcome:
    match reason:
        case "cancel" | "kill":
            return Cancelled()
        case "pause":
            return Paused()
        case "deadline":
            return Failed("deadline", "It took longer than deadline_seconds.")
        case "stall":
            return Failed("trainer_stalled", "The trainer said nothing for stall_seconds, and was killed.")
        case "shutdown":
            return Released()
        case _:
            assert_never(reason)


def _died(end: Exit) -> Outcome:
    if end.returncode < 0:
        name = signal.Signals(-end.returncode).name
        hint = ", perhaps by the kernel for want of memory" if name == "SIGKILL" else ""
        return Failed("trainer_killed", f"The trainer was killed by {name}{hint}.")
    if end.returncode == EXIT_DISK_FULL:
        return Failed("disk_full", "The trainer found the worker's disk full.")
    if end.returncode == EXIT_BUSY:
        return Failed("trainer_busy", "The trainer of an earlier attempt, on the same host, has not ended yet.")
    if end.returncode == EXIT_ALONE:
        return Failed("worker_lost", "The worker was frozen for longer than its lease.")
    words = f": {end.last_words}" if end.last_words else ", and said nothing."
    if not end.was_ready:
        return Failed("trainer_not_started", f"The trainer of this worker does not start{words}")
    return Failed("trainer_error", f"The trainer ended with exit code {end.returncode}{words}")
