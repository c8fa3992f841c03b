"""Each arm is judged at its own best setting, chosen on validation data over the same grid for all.

Invariant: the choice depends on the table, not on the order of its rows, and sees no test data: `winners` refuses a
metric of the test set.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bncore import moments
from bncore.studies.results import Metric, Place, Results, Scalar, Setting, setting

BEYOND = 2
"""Values that the grid gains beyond an edge at which an arm was best; it does so once."""


class TuningIncomplete(ValueError):
    """An arm has no setting at which every seed has a result."""


@dataclass(frozen=True)
class Axis:
    """The values of one path of the spec that every arm is tried at."""

    path: str
    values: tuple[Scalar, ...]
    """Ascending, unless the scale is `choice`."""
    scale: Literal["log", "linear", "choice"] = "log"
    least: float = -math.inf
    """Nothing lies beyond these two: best there is not at an edge."""
    largest: float = math.inf


@dataclass(frozen=True)
class Grid:
    axes: tuple[Axis, ...]
    widened: bool = False

    def settings(self) -> tuple[Setting, ...]:
        """Every combination of the axes' values."""
        paths = [axis.path for axis in self.axes]
        return tuple(
            setting(dict(zip(paths, each, strict=True)))
            for each in itertools.product(*(axis.values for axis in self.axes))
        )


@dataclass(frozen=True)
class Winner:
    """The best setting of an arm."""

    place: Place
    mean: float
    """Of the validation metric, over seeds."""
    seeds: int
    edges: Mapping[str, Scalar] = field(default_factory=dict)
    """The paths at whose edge it lies, and the value there."""
    left_out: tuple[Setting, ...] = ()
    """Settings that lack the result of a seed, and so were not compared."""


def winners(found: Results, arms: Sequence[str], grid: Grid, metric: Metric, seeds: Sequence[int]) -> dict[str, Winner]:
    """Of each arm the setting with the best mean over the seeds.

    Of equal means the setting nearest the middle of the grid wins, of equally near ones the first, with smaller
    values: a plateau that reaches the edge is no reason to widen the grid.

    Raises:
        TuningIncomplete: an arm has no setting at which all seeds have a result.
        ValueError: the metric is one of the test set, which chooses nothing.
    """
    if "test/" in metric.key:
        raise ValueError(f"{metric.key} chooses no setting: tune on validation data")
    return {arm: _winner(found, arm, grid, metric, seeds) for arm in arms}


def widened(grid: Grid, best: Mapping[str, Winner]) -> Grid | None:
    """The grid with `BEYOND` values more where any arm was best at its edge; None: none was, or it was widened already.

    For all arms alike: each gets the same settings, whoever asked for them.
    """
    axes = tuple(
        _wider(axis, {winner.edges[axis.path] for winner in best.values() if axis.path in winner.edges})
        for axis in grid.axes
    )
    return None if grid.widened or axes == grid.axes else Grid(axes, widened=True)


def confirmations(best: Mapping[str, Winner], pairs: Sequence[tuple[str, str]]) -> tuple[Place, ...]:
    """Where fresh seeds are to run: each arm at its own best, and each pair at the best setting of either.

    So that what holds at matched settings can stand beside best versus best.
    """
    own = [winner.place for winner in best.values()]
    both = [place for pair in pairs for compared in matched(best, *pair).values() for place in compared]
    return tuple(dict.fromkeys((*own, *both)))


def gained(axis: Axis, edge: Scalar) -> tuple[float, ...]:
    """The values that an axis has beyond an edge of it once it is widened, from there on; by its own outermost step."""
    numbers = [float(value) for value in axis.values]
    if len(numbers) < 2:
        return ()
    below = edge == axis.values[0]
    return _beyond(numbers[1], numbers[0], axis) if below else _beyond(numbers[-2], numbers[-1], axis)


def matched(best: Mapping[str, Winner], treatment: str, baseline: str) -> dict[str, tuple[Place, Place]]:
    """The comparisons to report of a pair: by name, the places of treatment and baseline."""
    ours, theirs = best[treatment].place, best[baseline].place
    return {
        "best_versus_best": (ours, theirs),
        "at_best_of_baseline": (Place(treatment, theirs.setting), theirs),
        "at_best_of_treatment": (ours, Place(baseline, ours.setting)),
    }


def _winner(found: Results, arm: str, grid: Grid, metric: Metric, seeds: Sequence[int]) -> Winner:
    settings = grid.settings()
    means = {each: _mean(found, Place(arm, each), metric, seeds) for each in settings}
    complete = {each: mean for each, mean in means.items() if mean is not None}
    if not complete:
        raise TuningIncomplete(f"{arm} has no setting at which every seed has {metric.key}")
    sign = -1 if metric.higher_is_better else 1
    chosen = min(complete, key=lambda each: (sign * complete[each], _from_middle(grid, each), settings.index(each)))
    left_out = tuple(each for each in settings if each not in complete)
    return Winner(Place(arm, chosen), complete[chosen], len(seeds), _edges(grid, chosen), left_out)


def _mean(found: Results, place: Place, metric: Metric, seeds: Sequence[int]) -> float | None:
    runs = found.at(place)
    scores = [metric.of(runs[seed]) if seed in runs else None for seed in seeds]
    known = [score for score in scores if score is not None]
    return moments.mean(known) if len(known) == len(seeds) else None


def _from_middle(grid: Grid, chosen: Setting) -> float:
    """How far from the middle of its axes, in positions, counted from the outermost."""
    at = dict(chosen)
    return max((abs(axis.values.index(at[axis.path]) - (len(axis.values) - 1) / 2) for axis in grid.axes), default=0.0)


def _edges(grid: Grid, chosen: Setting) -> dict[str, Scalar]:
    at = dict(chosen)
    return {axis.path: at[axis.path] for axis in grid.axes if at[axis.path] in _open_edges(axis)}


def _open_edges(axis: Axis) -> tuple[Scalar, ...]:
    """The outermost values beyond which others could be: none on an axis of choices, nor at 0 on a logarithmic one."""
    if axis.scale == "choice" or len(axis.values) < 2:
        return ()
    low, high = float(axis.values[0]), float(axis.values[-1])
    below = low > axis.least and (axis.scale == "linear" or low > 0)
    return (axis.values[0],) * below + (axis.values[-1],) * (high < axis.largest)


def _wider(axis: Axis, edges: set[Scalar]) -> Axis:
    low, high = axis.values[0], axis.values[-1]
    below = gained(axis, low) if low in edges else ()
    above = gained(axis, high) if high in edges else ()
    return replace(axis, values=(*reversed(below), *axis.values, *above))


def _beyond(inner: float, outer: float, axis: Axis) -> tuple[float, ...]:
    grows = axis.scale == "log"
    if grows and inner == 0:
        return ()
    whole = all(isinstance(value, int) for value in axis.values)
    found: list[float] = []
    for value in (_stepped(inner, outer, k, grows) for k in range(1, BEYOND + 1)):
        if math.isfinite(value):
            found += _written(value, [outer, *found][-1], outer > inner, whole)
    return tuple(value for value in found if axis.least <= value <= axis.largest)


def _written(value: float, before: float, upwards: bool, whole: bool) -> list[float]:
    """As people write it, since in binary 0.3 / 0.1 is not 3, where that lies beyond the value before; else itself.
    Nothing where neither does."""
    ways = [round(value)] if whole else [float(f"{value:.6g}"), value]
    return [way for way in ways if (way > before if upwards else way < before)][:1]


def _stepped(inner: float, outer: float, k: int, grows: bool) -> float:
    """The k-th value beyond the outer one; inf where a float holds none so large."""
    try:
        return outer * (outer / inner) ** k if grows else outer + (outer - inner) * k
    except OverflowError:
        return math.inf
