"""`python -m worker.relay`. As in `worker.__main__`: told to go while it still imports, it just goes.

Invariant: from the first line on, a signal to go ends the process with code 0.
"""

import sys

from bncore.garbage import uncollected
from bncore.lifeline import exit_on_signals

if __name__ == "__main__":
    exit_on_signals()
    with uncollected():
        from worker.relay_process import main

    sys.exit(main())
