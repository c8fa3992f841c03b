"""The process that trains one attempt.

Invariant: the only write end of its standard input is in this process, so that it ends with us however we die. If it
must not go on while we are frozen, it lives by what we allow it again and again.
"""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bncore.lifeline import allow
from worker.child_process import ChildProcess
from worker.repeating import Repeating

_CLOSE_SECONDS = 5.0
_BELL_BYTES = 4096


class TrainerGone(Exception):
    """The process ended before it was given anything to train."""


@dataclass(frozen=True)
class Terms:
    """What every trainer of a worker is trained under. The functions are called from other threads."""

    on_end: Callable[[], None]
    """The trainer has ended."""
    on_news: Callable[[], None]
    """The trainer has written numbers."""
    alone_seconds: float | None = None
    """How long it may train while this process does nothing at all, stopped or starved; None is for ever."""


class TrainerProcess:
    """One trainer, with the ends of its lifeline and its bell, and where it has written what."""

    def __init__(
        self,
        process: ChildProcess,
        terms: Terms,
        *,
        lifeline: int,
        bell: int,
        logs: list[Path],
        was_ready: Callable[[], bool],
    ) -> None:
        self._process = process
        self._lifeline: int | None = lifeline
        self._logs = logs
        self._was_ready = was_ready
        self._allowing: Repeating | None = None
        threading.Thread(target=_listen, args=(bell, terms.on_news), name="trainer-bell", daemon=True).start()
        seconds = terms.alone_seconds
        if seconds is not None:
            os.set_blocking(lifeline, False)
            self._allowing = Repeating("trainer-lifeline", lambda: allow(lifeline, seconds), seconds / 4)
            self._allowing.start()
        process.when_ended(terms.on_end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, as `subprocess` says it; None while it lives."""
        return self._process.returncode

    @property
    def ended(self) -> bool:
        return self._process.ended

    @property
    def was_ready(self) -> bool:
        """Whether it had warmed up; one that had not and ended cannot train anything."""
        return self._was_ready()

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Have it do nothing until `thaw`."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and its children now."""
        self._process.kill()

    def await_end(self, seconds: float) -> bool:
        """Wait that long for its end; whether it came."""
        return self._process.await_end(seconds)

    def close(self) -> None:
        """End it by the end of its standard input, and by force if that is not enough."""
        if self._allowing is not None:
            self._allowing.stop()
            self._allowing = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if not self._process.await_end(_CLOSE_SECONDS):
            self._process.kill()
            self._process.await_end(_CLOSE_SECONDS)

    def last_words(self, max_bytes: int) -> str:
        """The end of what it wrote to standard output and error."""
        said = b"".join(tail(path, max_bytes) for path in self._logs)
        return said[-max_bytes:].decode(errors="replace").strip()


def _listen(bell: int, on_news: Callable[[], None]) -> None:
    with open(bell, "rb", buffering=0) as rings:
        # However often it was rung meanwhile, one call says that there is something to read.
        while rings.read(_BELL_BYTES):
            on_news()


def tail(path: Path, max_bytes: int) -> bytes:
    """The end of a file; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
            return file.read()
    except FileNotFoundError:
        return b""
