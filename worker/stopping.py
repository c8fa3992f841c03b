"""When and why a trainer has to stop: what its owner wants, its deadline, its silence, and the end of the worker.

Invariant: the first reason counts, but for `kill`, which comes on top; once told to stop, a trainer has a grace period
to save, and is then killed. Spans are measured by this process's own clock: no other clock stops a run.
"""

import math
import threading
import time
from collections.abc import Callable

import structlog

from store.jobs.leases import Go, Stop
from worker.ending import Reason
from worker.trainer_process import TrainerProcess

log = structlog.get_logger()

# A process that has not warmed up yet imports for seconds, on a busy machine for many.
_WARM_UP_SECONDS = 300.0


class Stopping:
    """The reasons of one attempt; `look` has to be called again at `next_look`."""

    def __init__(
        self,
        shutdown: threading.Event,
        *,
        grace_seconds: float,
        seconds_left: float | None,
        stall_seconds: float | None,
        silent_seconds: Callable[[], float],
    ) -> None:
        self._shutdown = shutdown
        self._grace_seconds = grace_seconds
        self._deadline_at = math.inf if seconds_left is None else time.monotonic() + seconds_left
        self._stall_seconds = math.inf if stall_seconds is None else stall_seconds
        self._silent_seconds = silent_seconds
        self._kill_at = math.inf
        self._killed = False
        self._warm_at = 0.0
        self._trainer: TrainerProcess | None = None
        self.reason: Reason | None = None
        self.frozen = False
        """Set while the trainer has to stand still: it cannot be expected to say anything."""

    @property
    def grace_is_over(self) -> bool:
        """Whether it is time to leave without another word."""
        return time.monotonic() >= self._kill_at

    def watch(self, trainer: TrainerProcess) -> None:
        """From now on the reasons reach this trainer; those that there are already, at once."""
        self._trainer = trainer
        if self.reason is not None:
            trainer.stop()

    def hear(self, answer: Go | Stop) -> None:
        """Take in the answer to a renewal."""
        if isinstance(answer, Stop):
            self._stop(answer.reason)
        self.look()

    def look(self) -> None:
        """Find reasons, and kill what has outlived its grace."""
        if self._shutdown.is_set():
            self._stop("shutdown")
        if time.monotonic() >= self._deadline_at:
            self._stop("deadline")
        if self._trainer is None or self._trainer.ended:
            return
        if time.monotonic() >= self._stall_at():
            self._stop("stall")
        if self.grace_is_over and not self._killed:
            # Its end takes a moment, which must not be spent asking for it again and again.
            self._killed = True
            log.warning("trainer_killed", reason=self.reason, grace_seconds=self._grace_seconds)
            self._trainer.kill()

    def next_look(self) -> float:
        """When, by the monotonic clock, `look` could find something new by itself."""
        kill_at = math.inf if self._killed else self._kill_at
        return min(kill_at, math.inf if self.reason else min(self._deadline_at, self._stall_at()))

    def _stall_at(self) -> float:
        """When the trainer will have been silent for too long. What it imports before it begins is no step of its."""
        if self._trainer is None or self.frozen:
            return math.inf
        began_silence = time.monotonic() - self._silent_seconds()
        if self._trainer.was_ready:
            return max(began_silence, self._warm_at) + self._stall_seconds
        self._warm_at = time.monotonic()
        return began_silence + _WARM_UP_SECONDS + self._stall_seconds

    def _stop(self, reason: Reason) -> None:
        if self.reason == reason or (self.reason is not None and reason != "kill"):
            return
        self.reason = reason
        # Whoever says nothing will not save either, and after `kill` nobody wants it.
        grace = 0.0 if reason in ("kill", "stall") else self._grace_seconds
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        log.info("stopping", reason=reason)
        if self._trainer is not None:
            self._trainer.stop()
