"""When and why a trainer has to stop, or to stand still: what its owner wants, its deadline, its silence, its lease,
and the end of the worker.

Invariant: the first reason counts, but for `kill`, which comes on top; once told to stop, a trainer has a grace period
to save, and is then killed. All of this happens in a thread that touches no database, which may stand. Spans are
measured by this process's own clock: no other clock stops a run.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from store.jobs.leases import Go, Stop
from worker.ending import Reason
from worker.trainer_process import TrainerProcess

log = structlog.get_logger()

_LOOK_SECONDS = 0.1
# A process that has not warmed up yet imports for seconds, on a busy machine for many.
_WARM_UP_SECONDS = 300.0


@dataclass(frozen=True)
class Limits:
    """What bounds one attempt, in seconds; infinite is without bound."""

    grace: float
    lease: float
    deadline: float = math.inf
    """From now on."""
    stall: float = math.inf


class Stopping:
    """The reasons of one attempt, looked for as long as the context lasts.

    `renewed_at` says when the lease was last renewed, `silent_seconds` for how long the trainer has written nothing,
    both by the monotonic clock.
    """

    def __init__(
        self,
        shutdown: threading.Event,
        limits: Limits,
        *,
        renewed_at: Callable[[], float],
        silent_seconds: Callable[[], float],
    ) -> None:
        self._shutdown = shutdown
        self._limits = limits
        self._renewed_at = renewed_at
        self._silent_seconds = silent_seconds
        self._deadline_at = time.monotonic() + limits.deadline
        self._kill_at = math.inf
        self._heard_at = self._ready_at = time.monotonic()
        self._frozen = False
        self._killed = False
        self._trainer: TrainerProcess | None = None
        self._changing = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stopping", daemon=True)
        self.reason: Reason | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grace_is_over(self) -> bool:
        """Whether it is time to leave without another word."""
        return time.monotonic() >= self._kill_at

    def watch(self, trainer: TrainerProcess) -> None:
        """From now on the reasons reach this trainer; those that there are already, at once."""
        with self._changing:
            self._trainer = trainer
            if self.reason is not None:
                trainer.stop()

    def hear(self, answer: Go | Stop) -> None:
        """Take in the answer to a renewal."""
        if isinstance(answer, Stop):
            self._stop(answer.reason)
        self.look()

    def look(self) -> None:
        """Find reasons, and kill what has outlived its grace; from any thread."""
        with self._changing:
            if self._shutdown.is_set():
                self._stop("shutdown")
            if time.monotonic() >= self._deadline_at:
                self._stop("deadline")
            if self._trainer is None or self._trainer.ended:
                return
            self._hold_to_lease(self._trainer)
            if self._heard_nothing_seconds(self._trainer) >= self._limits.stall:
                self._stop("stall")
            if self.grace_is_over and not self._killed:
                # Its end takes a moment, which must not be spent asking for it again and again.
                self._killed = True
                log.warning("trainer_killed", reason=self.reason, grace_seconds=self._limits.grace)
                self._trainer.kill()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.look()

    def _hold_to_lease(self, trainer: TrainerProcess) -> None:
        """Without a lease the job may be somebody else's by now: the trainer stands still until that is known."""
        lapsed = time.monotonic() - self._renewed_at() >= self._limits.lease
        if lapsed and not self._frozen:
            log.warning("trainer_frozen", pid=trainer.pid, reason="the lease could not be renewed in time")
            trainer.freeze()
        elif self._frozen and not lapsed:
            log.info("trainer_thawed", pid=trainer.pid)
            trainer.thaw()
            self._heard_at = time.monotonic()
        self._frozen = lapsed

    def _heard_nothing_seconds(self, trainer: TrainerProcess) -> float:
        """For how long it has been silent for no reason; what it imports before it begins is no step of its."""
        if self._frozen:
            return 0.0
        silent = min(self._silent_seconds(), time.monotonic() - self._heard_at)
        if trainer.was_ready:
            return min(silent, time.monotonic() - self._ready_at)
        self._ready_at = time.monotonic()
        return silent - _WARM_UP_SECONDS

    def _stop(self, reason: Reason) -> None:
        with self._changing:
            if self.reason == reason or (self.reason is not None and reason != "kill"):
                return
            self.reason = reason
            # Whoever says nothing will not save either, and after `kill` nobody wants it.
            grace = 0.0 if reason in ("kill", "stall") else self._limits.grace
            self._kill_at = min(self._kill_at, time.monotonic() + grace)
            log.info("stopping", reason=reason)
            if self._trainer is not None:
                self._trainer.stop()
