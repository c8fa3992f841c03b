"""A process that draws a figure again and again, for nobody: `python -m bench.neighbour`.

What it does to others is what the machine does to whoever shares its cores and caches with the process beside the API.
It is as nice as that one, and says on standard output that it has drawn the first. It ends with its parent.
"""

import os
import sys

from api.aside.child import NICE
from bench.figures import series_drawn
from bncore.figures.asked import figure, packed
from bncore.figures.results import COLUMN_WIDTH
from bncore.lifeline import die_with_parent
from bncore.spec import load_spec


def main() -> None:
    """Draw until it is killed."""
    die_with_parent()
    os.nice(NICE)
    spec = load_spec({"network": {"kind": "mlp"}}).model_dump(mode="json")
    described, blobs = packed({"exp_0": spec}, {"exp_0": series_drawn()}, {})
    options = {"theme": "light", "width": COLUMN_WIDTH, "keys": [*series_drawn()], "log_y": False, "traces": False}
    asked = {"name": "curves", "format": "png", "scale": 2.0, "options": options}
    asked |= {"experiments": described, "affordable_seconds": 10.0}
    figure(asked, blobs)
    sys.stdout.write("drawing\n")
    sys.stdout.flush()
    while True:
        figure(asked, blobs)


if __name__ == "__main__":
    main()
