"""What a sweep amounts to before anything of it is stored."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from api.shown import Shown
from api.shown.plans import SpecWarning, warnings_of
from api.shown.sweeps import SweepNow
from api.shown.waiting import Living
from bncore.spec import ExperimentSpec
from bncore.spec.sweep import Point, SweepSpec, examples, extremes, parameters, pruned_steps, steps


class SweepWarning(SpecWarning):
    """Something that specs of a sweep say, and that may not be meant."""

    points: int = Field(description="Of how many points; `detail` is of the first of them. Of a search, of its ends.")
    values: dict[str, Any] = Field(description="Of the axes, at that point.")
    arm: str | None


class SweepSubmitted(SweepNow):
    """A sweep as it was accepted."""

    warnings: list[SweepWarning] = Field(
        description="What may not be meant so; of equal ones the first is shown. Of a search, of its first trials."
    )


class PlannedExperiment(Shown):
    """One that would be submitted."""

    values: dict[str, Any] = Field(description="Of the axes, by their paths.")
    arm: str | None
    seed: int
    spec: dict[str, Any] = Field(description="With every default filled in.")

    @classmethod
    def of(cls, point: Point) -> "PlannedExperiment":
        return cls(values=point.at, arm=point.arm, seed=point.seed, spec=point.spec.model_dump(mode="json"))


class PlannedRung(Shown):
    """Where the points of each arm are ranked, or of all together."""

    step: int
    points: int
    kept: int


class PlannedPruning(Shown):
    """What pruning would leave of a sweep."""

    rungs: list[PlannedRung] = Field(description="Of each arm, or of all points where prune.within is sweep.")
    kept: int = Field(description="Points of all arms that train to their end.")
    total_steps: int = Field(description="Of all experiments, if nothing but pruning ends any early.")

    @classmethod
    def of(cls, spec: SweepSpec, budget: int) -> "PlannedPruning | None":
        if spec.prune is None:
            return None
        brackets, points = len(spec.prune.brackets(list(spec.arms))), spec.bracket_points
        rungs = spec.prune.rungs(points, budget)
        return cls(
            rungs=[PlannedRung(step=one.step, points=one.points, kept=one.kept) for one in rungs],
            kept=brackets * rungs[-1].kept,
            total_steps=brackets * len(spec.seed_list) * pruned_steps(rungs, points, budget),
        )


class PlannedSearch(Shown):
    """What a search would do: which trials there are going to be is known when others have ended."""

    trials: int = Field(description="Of each arm, at most: fewer where nothing new is left in the space.")
    at_once: int = Field(description="Of each arm.")
    objective: str = Field(description="Its mean over the seeds.")
    direction: str
    on_test_data: bool
    space: dict[str, Any]
    cheapest: PlannedExperiment = Field(description="At the end of each axis at which training costs least.")
    dearest: PlannedExperiment

    @classmethod
    def of(cls, spec: SweepSpec, corners: Sequence[Point]) -> "PlannedSearch | None":
        """`corners` are experiments at the ends of its space."""
        if spec.search is None:
            return None
        search, ends = spec.search, extremes(spec, corners, _cost)
        shown = search.model_dump(mode="json", include={"trials", "at_once", "objective", "space"})
        return cls(
            **shown,
            direction="maximize" if search.maximizes else "minimize",
            on_test_data=search.on_test_data,
            cheapest=PlannedExperiment.of(min((one.least for one in ends), key=lambda point: _cost(point.spec))),
            dearest=PlannedExperiment.of(max((one.most for one in ends), key=lambda point: _cost(point.spec))),
        )


class SweepValidated(Shown):
    """What a sweep amounts to."""

    points: int = Field(description="Of a search, those that there are going to be, at most.")
    seeds: list[int]
    experiments: int = Field(description="Of a search, at most.")
    least_steps: int = Field(description="Of all experiments, if none ends early; of a search, at its cheapest.")
    total_steps: int = Field(description="Of all experiments, if none ends early; of a search, at its dearest.")
    least_examples: int = Field(description="As `examples`, of a search at its cheapest.")
    examples: int = Field(
        description="That all of them read in training: batches of full size, over all steps; of a search at its "
        "dearest."
    )
    least_parameters: int
    most_parameters: int
    search: PlannedSearch | None = Field(description="Null where nothing is searched.")
    prune: PlannedPruning | None = Field(description="Null where nothing is pruned.")
    warnings: list[SweepWarning] = Field(description="What may not be meant so; of equal ones the first is shown.")
    first: PlannedExperiment = Field(description="Of a search, the cheapest.")
    last: PlannedExperiment = Field(description="Of a search, the dearest.")

    @classmethod
    def of(cls, spec: SweepSpec, experiments: Sequence[Point], living: Living) -> "SweepValidated":
        """`experiments` are all of them; of a search, whose template is complete, those at the ends of its space."""
        seeds = spec.seed_list
        # A seed changes neither what a point costs nor what is to be said of it.
        points = [one for one in experiments if one.seed == seeds[0]]
        search = PlannedSearch.of(spec, points)
        step, read, learned = (_ranges(spec, points, measure) for measure in (steps, examples, parameters))
        ends = (experiments[0], experiments[-1])
        first, last = map(PlannedExperiment.of, ends) if search is None else (search.cheapest, search.dearest)
        return cls(
            points=spec.points,
            seeds=seeds,
            experiments=spec.points * len(seeds),
            least_steps=step.least,
            total_steps=step.most,
            least_examples=read.least,
            examples=read.most,
            least_parameters=learned.smallest,
            most_parameters=learned.largest,
            search=search,
            prune=PlannedPruning.of(spec, steps(points[0].spec)),
            warnings=sweep_warnings(points, living),
            first=first,
            last=last,
        )


class _Ranges(NamedTuple):
    """Of something that each experiment has: between which numbers it is in one of them, and in all together."""

    smallest: int
    largest: int
    least: int
    most: int


def _ranges(spec: SweepSpec, points: Sequence[Point], measure: Callable[[ExperimentSpec], int]) -> _Ranges:
    seeds = len(spec.seed_list)
    if spec.search is None:
        each = [measure(point.spec) for point in points]
        return _Ranges(min(each), max(each), sum(each) * seeds, sum(each) * seeds)
    ends = extremes(spec, points, measure)
    low, high = [measure(one.least.spec) for one in ends], [measure(one.most.spec) for one in ends]
    made = spec.search.trials * seeds
    return _Ranges(min(low), max(high), made * sum(low), made * sum(high))


def _cost(spec: ExperimentSpec) -> int:
    """What training takes, but for a factor that the kind of the network decides."""
    return examples(spec) * parameters(spec)


def sweep_warnings(points: Sequence[Point], living: Living) -> list[SweepWarning]:
    """What is worth saying of the points, each with one seed; of equal ones the first."""
    found: dict[tuple[str, str], tuple[SpecWarning, Point, int]] = {}
    for point in points:
        for one in warnings_of(point.spec, living):
            first, at, count = found.get((one.pointer, one.code), (one, point, 0))
            found[one.pointer, one.code] = first, at, count + 1
    return [
        SweepWarning(**one.model_dump(), points=count, values=at.at, arm=at.arm) for one, at, count in found.values()
    ]
