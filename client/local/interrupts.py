"""SIGINT, SIGTERM and SIGHUP as one exception, raised once: what follows it, the orderly end, is not interrupted.

A second signal does not break that off either, it only says to hurry.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked this process to end. No `Exception`, so that no handler of errors swallows it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


class Interrupts:
    """How often the process was asked to end, while `interruptible` lasts."""

    def __init__(self) -> None:
        self._count = 0
        self._raising = True

    def hurry(self) -> bool:
        """Whether somebody asked again after the first time."""
        return self._count > 1

    def hold(self) -> None:
        """From now on signals are only counted: the end has begun by itself, one signal means hurry."""
        if self._raising:
            self._raising = False
            self._count += 1

    def note(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._raising:
            self._raising = False
            raise Interrupted(number)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Signals raise `Interrupted` in the main thread inside this block; only the main thread may enter it."""
    interrupts = Interrupts()
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
    for number in SIGNALS:
        # nohup ignores SIGHUP, a script's background job SIGINT: both meant it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, interrupts.note)
    try:
        yield interrupts
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
