"""A wish to stop, heard as a signal: marked at once, read when there is time for it.

Invariant: from its making on, SIGTERM and SIGINT end the process only where it chooses to end.
"""

import os
import signal


class StopRequest:
    """Set by a signal, read between steps. `wake` becomes readable with each signal."""

    def __init__(self) -> None:
        self.asked = False
        self.wake, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def stop_waking(self) -> None:
        """Close `wake`, which a forked process shares with its parent. Signals set `asked` as before."""
        signal.set_wakeup_fd(-1)
        os.close(self.wake)
        os.close(self._write_end)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True
