"""`python -m worker`. Importing what a worker needs takes seconds; one that is told to go meanwhile just goes.

Invariant: from the first line on, a signal to go ends the process with code 0.
"""

import sys

from bncore.garbage import uncollected
from bncore.lifeline import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()
    with uncollected():
        from worker.process import main

    sys.exit(main())
