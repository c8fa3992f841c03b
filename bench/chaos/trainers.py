"""Trainers and waiting processes, found from outside: by what they hold open.

A trainer is known by its open `<runs>/<experiment>/<attempt>/events.jsonl`, a waiting process by the socket that is its
standard input. Linux only.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


@dataclass(frozen=True)
class Trainer:
    """A process that trains."""

    process: psutil.Process
    experiment_id: str
    attempt: int
    events: str
    """The way to its open events file, also when that has been deleted."""

    @property
    def is_stopped(self) -> bool:
        return self.process.status() in _STOPPED

    def events_bytes(self) -> int:
        """How much it has written."""
        return os.stat(self.events).st_size


def trainer_at(process: psutil.Process) -> Trainer | None:
    """The trainer that this process is, if it is one."""
    folder = Path(f"/proc/{process.pid}/fd")
    try:
        for end in folder.iterdir():
            place = os.readlink(end).removesuffix(" (deleted)")
            if place.endswith("/events.jsonl"):
                attempt = Path(place).parent
                return Trainer(process, attempt.parent.name, int(attempt.name), str(end))
    except (OSError, ValueError):
        return None
    return None


def is_waiting(process: psutil.Process) -> bool:
    """Whether it is a waiting process: one that still listens to its worker."""
    try:
        return "--zygote" in process.cmdline() and os.readlink(f"/proc/{process.pid}/fd/0").startswith("socket:")
    except (OSError, psutil.Error):
        return False


def children(pid: int | None) -> list[psutil.Process]:
    """Of a worker; none when it is gone."""
    if pid is None:
        return []
    try:
        return list(psutil.Process(pid).children())
    except psutil.Error:
        return []
