"""Runs side by side: grouped by what differs between their specs, with mean and deviation over seeds.

Invariant: pure functions of what was stored, torch-free, and no number is made up: a step to target that was not
reached, a run that diverged or has not ended, a value that is not finite is counted beside a mean and never in it.
"""

from collections.abc import Sequence

from bncore.comparison.grouping import Comparison, Group, compare, group_of
from bncore.comparison.measure import BEST, SECONDS, STEPS_TO_TARGET, Cell, Ends, Measure, MeasureUnknown, measures
from bncore.comparison.runs import Run
from bncore.comparison.sorting import SortUnknown, in_order

__all__ = [
    "BEST",
    "SECONDS",
    "STEPS_TO_TARGET",
    "Cell",
    "Comparison",
    "Ends",
    "Group",
    "Measure",
    "MeasureUnknown",
    "Run",
    "SortUnknown",
    "compare",
    "group_of",
    "in_order",
    "measures",
    "usual_measures",
]


def usual_measures(runs: Sequence[Run]) -> tuple[str, ...]:
    """What a table shows unless something else is asked for: the last accuracy of the test data (of a regression the
    loss), the best value, and the steps to the target where one was set."""
    counted = [run for run in runs if run.ended] or list(runs)
    accurate = any("test/accuracy" in run.series for run in counted)
    regressions = not counted or any("test/accuracy" not in run.series for run in counted)
    names = ["test/accuracy"] * accurate + ["test/loss"] * regressions + [BEST]
    return (*names, *([STEPS_TO_TARGET] if any(run.has_target for run in runs) else []))
