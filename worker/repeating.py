"""Doing something again and again in a thread, through outages of whatever it needs.

Invariant: an error ends neither the thread nor the process; it is logged once until things go well again, and the
pauses grow up to a bound meanwhile.
"""

import threading
from collections.abc import Callable

import structlog

from worker.outage import BROKER_OUTAGE, OUTAGE, in_a_line

log = structlog.get_logger()

MAX_PAUSE_SECONDS = 2.0
_JOIN_SECONDS = 15.0


class Repeating:
    """Calls `step` every so many seconds; at once again when it returns True (there is more to do).

    `sooner(seconds)` is a pause that ends early when there is a reason to look, and when `stop` is set.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool | None],
        every_seconds: float,
        *,
        stop: threading.Event | None = None,
        sooner: Callable[[float], object] | None = None,
    ) -> None:
        self._name = name
        self._step = step
        self._every_seconds = every_seconds
        self._stop = stop or threading.Event()
        self._sooner = sooner or self._stop.wait
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, at_most_seconds: float = _JOIN_SECONDS) -> None:
        """Let the current step end, and wait for it a while."""
        self._stop.set()
        self._thread.join(at_most_seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            more = False
            try:
                more = bool(self._step())
                if failures:
                    log.info("works_again", what=self._name, after_failures=failures)
                failures = 0
            except Exception as error:
                if not failures:
                    expected = isinstance(error, OUTAGE + BROKER_OUTAGE)
                    log.warning("does_not_work", what=self._name, error=in_a_line(error), exc_info=not expected)
                failures += 1
            if not more:
                pause = self._stop.wait if failures else self._sooner
                pause(self._pause_seconds(failures))

    def _pause_seconds(self, failures: int) -> float:
        longest = max(self._every_seconds, MAX_PAUSE_SECONDS)
        return min(self._every_seconds * 2.0 ** min(failures, 20), longest)
