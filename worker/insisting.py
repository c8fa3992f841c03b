"""Doing something with the database now or, if it is away, as soon as it is back."""

import threading
from collections.abc import Callable

import structlog

from worker.outage import OUTAGE, in_a_line
from worker.stopping import Stopping

log = structlog.get_logger()


class GaveUp(Exception):
    """The worker has to go and the database stayed away; the reaper will see to the job."""


class Insistence:
    """The patience of one attempt. An outage is logged when it begins and when it ends."""

    def __init__(self, stopping: Stopping, wake: threading.Event, shutdown: threading.Event, pause: float) -> None:
        self._stopping = stopping
        self._wake = wake
        self._shutdown = shutdown
        self._pause_seconds = pause
        self._away = False

    def on(self, act: Callable[[], object]) -> None:
        """Call `act` until it comes through. Raises `GaveUp` when the worker's grace is over, and what `act` raises."""
        while not self.once(act):
            self._stopping.look()
            if self._shutdown.is_set() and self._stopping.grace_is_over:
                raise GaveUp
            self._wake.wait(self._pause_seconds)
            self._wake.clear()

    def once(self, act: Callable[[], object]) -> bool:
        """Call `act`; False when the database is away."""
        try:
            act()
        except OUTAGE as error:
            if not self._away:
                log.warning("database_away", error=in_a_line(error))
            self._away = True
            return False
        if self._away:
            log.info("database_back")
        self._away = False
        return True
