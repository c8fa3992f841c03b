"""`python -m worker`. Importing what a worker needs takes seconds; one that is told to go meanwhile just goes.

Invariant: from the first line on, a signal to go ends the process with code 0.
"""

import os
import signal
import sys

if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Nothing is held yet: no claim, no file, no process.
        signal.signal(number, lambda _number, _frame: os._exit(0))
    from worker.process import main

    sys.exit(main())
