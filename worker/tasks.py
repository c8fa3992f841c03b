"""The one task: a bell was rung, so look at the queue.

Invariant: the task returns only when there is nothing left to claim, so a busy worker takes no bell from an idle one.
"""

from collections.abc import Callable

from celery import Celery
from kombu.asynchronous import get_event_loop

from worker.celery_app import RING

# Celery forgets a finished task a moment after its function has returned.
_FORGOTTEN_SECONDS = 0.01


def answer_bells(app: Celery, answer: Callable[[], None]) -> None:
    """Register the task that calls `answer`."""

    @app.task(name=RING, ignore_result=True)  # type: ignore[untyped-decorator]
    def ring() -> None:
        try:
            answer()
        finally:
            # With prefetching disabled, Celery asks the broker again only when its event loop turns, and while nothing
            # else happens that is seconds after the end of a task.
            turn_event_loop(_FORGOTTEN_SECONDS)


def turn_event_loop(delay_seconds: float) -> None:
    """Have Celery's event loop look around that much later instead of at the end of its pause; not from its thread."""
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(loop.call_later, delay_seconds, _nothing)  # type: ignore[no-untyped-call]


def _nothing() -> None:
    return
