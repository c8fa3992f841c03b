"""Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): points of a sweep that are ended early, and when.

Invariant: at which steps it is decided, and how many points stay, follows from what was asked alone, and is known
before anything is stored. What can never be decided is refused there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from bncore.spec.data import data_shape
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, SpecError
from bncore.spec.plan import steps_per_epoch, total_steps
from bncore.spec.recorded import evaluated_of, why_unmeasured
from bncore.spec.strict import SpecModel

_METRICS = ("validation/accuracy", "validation/loss")
_MOST_STEPS = 2**53
_MOST_FACTOR = 4
_STEPS = "/first_steps"


def _measured_on_validation_data(metric: Any) -> Any:
    if isinstance(metric, str) and metric not in _METRICS:
        cure = f"name one of {' and '.join(_METRICS)}"
        if metric.startswith("test/"):
            why = "Points that are chosen by test data look better on them than they are"
            raise PydanticCustomError("chooses_by_test_data", "{why}; {cure}", {"why": why, "cure": cure})
        raise PydanticCustomError("no_such_metric", "Is no series to choose by; {cure}", {"cure": cure})
    return metric


class PruneSpec(SpecModel):
    """Whole points, with all of their seeds, rest at a step until all have come there; the best go on."""

    kind: Literal["successive_halving"] = "successive_halving"
    metric: Annotated[
        Literal["validation/accuracy", "validation/loss"], BeforeValidator(_measured_on_validation_data)
    ] = Field(description="A series of validation data: its value at the step, the mean over the seeds of a point.")
    first_steps: Annotated[int, Field(ge=1, le=_MOST_STEPS)] = Field(
        description="The step of the first rung; each further one is `factor` times as far."
    )
    factor: Annotated[int, Field(ge=2, le=_MOST_FACTOR)] = Field(
        default=3, description="At a rung one point in so many goes on, and one at least."
    )
    within: Literal["arm", "sweep"] = Field(
        default="arm",
        description="Which points are ranked together: those of an arm, so that every arm keeps as many; or all.",
    )

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "validation/accuracy"

    def bracket_of(self, arm: str | None) -> str | None:
        """Together with which others a point of this arm is ranked: those of the same name."""
        return arm if self.within == "arm" else None

    def brackets(self, arms: Sequence[str]) -> list[str | None]:
        """The names of all."""
        return [*arms] if self.within == "arm" and arms else [None]

    def rung_steps(self, budget: int) -> list[int]:
        """At which steps it may be decided, of runs of `budget` steps."""
        found, step = [], self.first_steps
        while step < budget:
            found.append(step)
            step *= self.factor
        return found

    def kept(self, points: int) -> int:
        """How many of so many go on."""
        return max(1, points // self.factor) if points else 0

    def rungs(self, points: int, budget: int) -> "list[Rung]":
        """Where a bracket of so many points is decided, until one is left."""
        found = []
        for step in self.rung_steps(budget):
            if points < 2:
                break
            found.append(Rung(step, points, self.kept(points)))
            points = found[-1].kept
        return found

    def too_few(self, points: int) -> Iterator[Fault]:
        """What is wrong of a bracket of so many points."""
        if points < self.factor:
            group = "Each arm" if self.within == "arm" else "The sweep"
            detail = f"{group} has {points:,} points, and one in {self.factor} is to go on; give it so many at least"
            yield Fault("/factor", detail, "too_few_points")

    def require(self, points: Sequence[tuple[ExperimentSpec, str]]) -> None:
        """Raises `SpecError` with what keeps points from being pruned, of all that have it once; they come with their
        places in words. Pointers are into the sweep."""
        budget = budget_of(points[0][0])
        faults: dict[tuple[str, str], Fault] = {}
        for spec, where in points:
            for fault in map(into_sweep, self.unfit(spec, budget)):
                said = Fault(fault.pointer, f"{fault.detail}{where}", fault.code)
                faults.setdefault((fault.pointer, fault.code), said)
        if faults:
            raise SpecError(list(faults.values()))

    def unfit(self, spec: ExperimentSpec, budget: int) -> Iterator[Fault]:
        """Why points like this cannot be pruned, where the first of them has `budget` steps. Pointers are into the
        pruning."""
        if self.metric not in evaluated_of(spec):
            yield Fault("/metric", why_unmeasured(self.metric, spec), "no_such_metric")
        yield from self._unfit_steps(spec, budget)

    def _unfit_steps(self, spec: ExperimentSpec, budget: int) -> Iterator[Fault]:
        steps, every = budget_of(spec), spec.evaluation.every_steps
        if steps != budget:
            detail = f"Points have {budget:,} steps and others {steps:,}: at one step they are not equally far; set"
            yield Fault(_STEPS, f"{detail} train.steps to one number in all", "budgets_differ")
        elif self.first_steps >= steps:
            detail = f"Points have {steps:,} steps; to end any of them early takes a step before that"
            yield Fault(_STEPS, detail, "beyond_the_end")
        elif self.first_steps % every:
            near = sorted({max(1, self.first_steps // every) * every, (self.first_steps // every + 1) * every})
            said = " or ".join(f"{one:,}" for one in near)
            detail = (
                f"Nothing is measured at that step: evaluation.every_steps is {every:,}; have it divide, or take {said}"
            )
            yield Fault(_STEPS, detail, "not_evaluated")


@dataclass(frozen=True)
class Rung:
    """Where a bracket is decided."""

    step: int
    points: int
    """That come to it."""
    kept: int
    """That go on."""


def budget_of(spec: ExperimentSpec) -> int:
    """The steps of a run that nothing ends early."""
    return total_steps(spec.train, steps_per_epoch(spec.train, data_shape(spec.data)))


def pruned_steps(rungs: Sequence[Rung], points: int, budget: int) -> int:
    """The steps of a bracket of so many points in all, of one seed, if nothing but pruning ends any early."""
    ended = sum((rung.points - rung.kept) * rung.step for rung in rungs)
    return ended + (rungs[-1].kept if rungs else points) * budget


def beside_search() -> Fault:
    """Why there is no pruning of a search."""
    detail = "Trials of a search come one after another, and none waits for others at a step; leave one of the two out,"
    return Fault("/prune", f"{detail} or draw axes at random, `together`", "prune_beside_search")


def into_sweep(fault: Fault) -> Fault:
    """The same with its pointer into the sweep."""
    return Fault(f"/prune{fault.pointer}", fault.detail, fault.code)
