"""What a sweep amounts to before anything of it is stored."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from api.shown import Shown
from api.shown.plans import SpecWarning, warnings_of
from api.shown.waiting import Living
from bncore.spec import data_shape
from bncore.spec.plan import laid_network, steps_per_epoch, total_steps
from bncore.spec.sweep import Point, SweepSpec, pruned_steps


class SweepWarning(SpecWarning):
    """Something that specs of a sweep say, and that may not be meant."""

    points: int = Field(description="Of how many points; `detail` is of the first of them.")
    values: dict[str, Any] = Field(description="Of the axes, at that point.")
    arm: str | None


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


class SweepValidated(Shown):
    """What a sweep amounts to."""

    points: int = Field(description="Of a search, those that there are going to be.")
    seeds: list[int]
    experiments: int
    total_steps: int = Field(
        description="Of all experiments, if none ends early; of a search, as many as at the ends of its space on the "
        "average."
    )
    examples: int = Field(
        description="That all of them read in training: batches of full size, over all steps; of a search, as many as "
        "at the ends of its space on the average."
    )
    least_parameters: int
    most_parameters: int
    prune: PlannedPruning | None = Field(description="Null where nothing is pruned.")
    warnings: list[SweepWarning] = Field(description="What may not be meant so; of equal ones the first is shown.")
    first: PlannedExperiment
    last: PlannedExperiment

    @classmethod
    def of(cls, spec: SweepSpec, experiments: Sequence[Point], living: Living) -> "SweepValidated":
        """`experiments` are all of them; of a search, those at the ends of its space."""
        seeds = spec.seed_list
        # A seed changes neither what a point costs nor what is to be said of it.
        points = [one for one in experiments if one.seed == seeds[0]]
        share = spec.points * len(seeds) / len(points)
        sizes = [_parameters(point) for point in points]
        steps = [_steps(point) for point in points]
        batches = [point.spec.train.batch_size for point in points]
        return cls(
            points=spec.points,
            seeds=seeds,
            experiments=spec.points * len(seeds),
            total_steps=round(sum(steps) * share),
            examples=round(sum(map(int.__mul__, steps, batches)) * share),
            least_parameters=min(sizes),
            most_parameters=max(sizes),
            prune=PlannedPruning.of(spec, steps[0]),
            warnings=_warnings(points, living),
            first=PlannedExperiment.of(experiments[0]),
            last=PlannedExperiment.of(experiments[-1]),
        )


def _parameters(point: Point) -> int:
    sizes = data_shape(point.spec.data)
    return laid_network(point.spec.network, sizes.signal, sizes.outputs).parameters


def _steps(point: Point) -> int:
    train = point.spec.train
    return total_steps(train, steps_per_epoch(train, data_shape(point.spec.data)))


def _warnings(points: Sequence[Point], living: Living) -> list[SweepWarning]:
    found: dict[tuple[str, str], tuple[SpecWarning, Point, int]] = {}
    for point in points:
        for one in warnings_of(point.spec, living):
            first, at, count = found.get((one.pointer, one.code), (one, point, 0))
            found[one.pointer, one.code] = first, at, count + 1
    return [
        SweepWarning(**one.model_dump(), points=count, values=at.at, arm=at.arm) for one, at, count in found.values()
    ]
