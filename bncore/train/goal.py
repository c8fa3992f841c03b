"""What "best" and "target" mean: which series, which direction, which number.

Invariant: where examples are held out for validation, the test data choose nothing, unless the spec says so by name.
"""

import math
from dataclasses import dataclass

from bncore.events import Best
from bncore.spec import TargetSpec
from bncore.train.task import Task


@dataclass(frozen=True)
class Goal:
    """A series, whether more of it is better, and what of it was asked for, if anything was."""

    metric: str
    larger: bool
    wanted: float | None = None

    def improved_by(self, value: float, best: Best | None) -> bool:
        """Whether the value is better than the best so far. One that is not a number is better than none at all."""
        if best is None or math.isnan(best.value):
            return best is None or not math.isnan(value)
        return value > best.value if self.larger else value < best.value

    def reached_by(self, value: float) -> bool:
        """Whether the value is what was asked for, or better."""
        if self.wanted is None:
            return False
        return value >= self.wanted if self.larger else value <= self.wanted


@dataclass(frozen=True)
class Goals:
    """Of one run: what makes weights the best, and what its target is."""

    best: Goal
    target: Goal | None = None
    stops: bool = False
    """Whether the run ends at the target."""


def goals_of(task: Task, target: TargetSpec | None, part: str) -> Goals:
    """`part` is what is chosen by: `validation` where there are such examples, else `test`."""
    best = Goal(f"{part}/{task.chosen_by}", task.larger_is_better)
    if target is None:
        return Goals(best)
    return Goals(best, _target(target, part), target.stop)


def _target(target: TargetSpec, part: str) -> Goal:
    if target.test_accuracy is not None:
        return Goal("test/accuracy", True, target.test_accuracy)
    if target.accuracy is not None:
        return Goal(f"{part}/accuracy", True, target.accuracy)
    return Goal(f"{part}/loss", False, target.loss)
