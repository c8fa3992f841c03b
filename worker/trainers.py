"""Keeping a process warm that trains, or forks what trains: importing torch takes seconds, a fork milliseconds.

Invariant: a trainer trains once. A waiting process that cannot fork is replaced only when its run has ended, so that
warming up takes nothing from a run. One that ended before it was ready is this host's fault and no job's: until another
gets ready there is `trouble`.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import structlog

from worker.run_directory import WaitingDirectory
from worker.trainer_process import Terms, TrainerGone, TrainerProcess
from worker.zygote import Zygote

log = structlog.get_logger()

_MAX_PAUSE_SECONDS = 60.0
_LONGEST_WARM_UP_SECONDS = 120.0
"""It takes two to four on idle cores, and the first time after an installation reads a gigabyte."""


def _unheard() -> None:
    """Nobody listens."""


class Trainers:
    """At most one waiting process; for `on_end`, `on_news` and `alone_seconds` see `worker.trainer_process.Terms`.

    `on_ready` is called from another thread when the waiting process has warmed up.
    """

    def __init__(
        self,
        runs_dir: Path,
        device: str,
        process_id: str,
        on_end: Callable[[], None],
        on_news: Callable[[], None] = _unheard,
        alone_seconds: float | None = None,
        on_ready: Callable[[], None] = _unheard,
    ) -> None:
        self._directory = WaitingDirectory(runs_dir, process_id)
        self._device = device
        self._terms = Terms(on_end, on_news, alone_seconds)
        # Also held by the thread that learns of the waiting process's end.
        self._changing = threading.RLock()
        self._numbers = count()
        self._holding = ExitStack()
        self._waiting: Zygote | None = None
        self._closed = False
        self._on_ready = on_ready
        self._failures = 0
        self._try_again_at = 0.0
        self.trouble: str | None = None
        """Why nothing can be trained here at the moment, in words."""

    @property
    def ready(self) -> bool:
        """Whether a run that is handed over now begins at once."""
        waiting = self._waiting
        return waiting is not None and waiting.was_ready and not waiting.spent

    def warm_up(self) -> None:
        """Start the waiting process, unless there is one."""
        with self._changing:
            if self._closed or (self._waiting is not None and not self._waiting.spent):
                return
            self._discard()
            number = next(self._numbers)
            if number == 0:
                self._holding.enter_context(self._directory)
            log_path = self._directory.path / f"{number}.log"
            self._waiting = Zygote(log_path, self._device, self._note_ready, self._note_end)

    def may_train(self) -> bool:
        """Whether a run that is handed over now begins at once; if not, see to it that one will, and soon say so.

        A job that is claimed for a process that is not ready pays with a restart for one that never gets ready.
        """
        with self._changing:
            waiting = self._waiting
            if waiting is not None and not waiting.spent and waiting.age > _LONGEST_WARM_UP_SECONDS and not self.ready:
                self._note_failure(f"they are not ready after {_LONGEST_WARM_UP_SECONDS:.0f} seconds")
                self._discard()
            elif time.monotonic() >= self._try_again_at:
                self.warm_up()
        return self.ready

    def hand_over(self, run_directory: Path, log_path: Path) -> TrainerProcess:
        """Have the directory trained; a waiting process that died is replaced, once. Raises `TrainerGone`."""
        try:
            return self._hand_over(run_directory, log_path)
        except TrainerGone:
            log.warning("trainer_died_while_waiting")
            return self._hand_over(run_directory, log_path)

    def close(self) -> None:
        """End the waiting process."""
        with self._changing:
            self._closed = True
            self._discard()
            self._holding.close()

    def _hand_over(self, run_directory: Path, log_path: Path) -> TrainerProcess:
        with self._changing:
            self.warm_up()
            waiting = self._waiting
            if waiting is None:
                raise TrainerGone
            trainer = waiting.train(run_directory, log_path, self._terms)
            if waiting.spent and waiting.may_fork:
                # It was not ready. If the next came only after this run, the run after this would be as cold.
                self.warm_up()
            return trainer

    def _note_ready(self) -> None:
        self._failures, self.trouble = 0, None
        self._on_ready()

    def _note_end(self) -> None:
        """What was ready once can be again, at once; what never was is tried again now and then."""
        with self._changing:
            waiting = self._waiting
            if self._closed or waiting is None or not waiting.spent:
                return
            if not waiting.was_ready:
                self._note_failure(waiting.last_words)
            elif self._device == "cpu":
                self.warm_up()

    def _note_failure(self, why: str) -> None:
        self.trouble = f"trainers do not start here: {why}"
        self._try_again_at = time.monotonic() + min(2.0**self._failures, _MAX_PAUSE_SECONDS)
        self._failures += 1
        log.error("trainer_does_not_start", error=self.trouble)

    def _discard(self) -> None:
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
