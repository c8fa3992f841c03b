"""Over which settings an arm works, seed by seed, and by how much further one arm does than another.

A setting works where training has not diverged and the accuracy is within `TOLERANCE` of the best that the arm has at
any setting with the same seed. By seed, so that seeds that are added later change nothing of the others.

Invariant: where an arm works up to the end of the range, or nowhere in it, only a bound on the difference is known, and
the effects say so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bncore.studies.estimand import Effects, bound_of, computed
from bncore.studies.results import Metric, Place, Results, Run
from bncore.studies.tuning import Grid, Winner, winners

TOLERANCE = 0.03


@dataclass(frozen=True)
class Extent:
    """How far an arm works, in decades."""

    decades: float
    may_be_more: bool = False
    """The range ends there."""
    may_be_less: bool = False
    """It works nowhere."""


def largest(accuracies: Mapping[float, float | None]) -> Extent:
    """log10 of the largest value that works.

    Args:
        accuracies: by value, ascending; None where it diverged.
    """
    works = working(accuracies)
    if not works:
        return Extent(math.log10(min(accuracies)), may_be_less=True)
    return Extent(math.log10(works[-1]), may_be_more=works[-1] == max(accuracies))


def width(accuracies: Mapping[float, float | None]) -> Extent:
    """log10 of the ratio of the ends of the band around the best value in which all work."""
    works = working(accuracies)
    if not works:
        return Extent(0.0, may_be_less=True)
    values, scores = list(accuracies), {value: accuracies[value] or 0.0 for value in works}
    low = high = values.index(max(scores, key=lambda value: scores[value]))
    while low > 0 and values[low - 1] in works:
        low -= 1
    while high < len(values) - 1 and values[high + 1] in works:
        high += 1
    is_open = low == 0 or high == len(values) - 1
    return Extent(math.log10(values[high] / values[low]), may_be_more=is_open)


def working(accuracies: Mapping[float, float | None]) -> tuple[float, ...]:
    """The values that work, of accuracies by value; None is one that diverged."""
    known = {value: score for value, score in accuracies.items() if score is not None}
    least = max(known.values(), default=0.0) - TOLERANCE
    # Rounded: what is exactly as far below in decimals works.
    return tuple(value for value, score in known.items() if round(score - least, 9) >= 0)


def accuracies(
    found: Results, places: Mapping[float, Place], accuracy: Metric, seeds: Sequence[int]
) -> dict[int, dict[float, float | None] | None]:
    """By seed and value; a seed of which a run or its number is missing has None."""
    runs = {value: found.at(place) for value, place in places.items()}
    return {seed: _scores({value: of.get(seed) for value, of in runs.items()}, accuracy) for seed in seeds}


def farther(seeds: Sequence[int], ours: Sequence[Extent | None], theirs: Sequence[Extent | None]) -> Effects:
    """By how many decades the treatment works farther."""
    pairs = list(zip(ours, theirs, strict=True))
    values = [one.decades - other.decades if one and other else None for one, other in pairs]
    known = [
        bound_of(one.may_be_more or other.may_be_less, one.may_be_less or other.may_be_more)
        if one and other
        else "exact"
        for one, other in pairs
    ]
    return computed(seeds, values, known)


def best_of(found: Results, arms: Sequence[str], grid: Grid, metric: Metric, seeds: Sequence[int]) -> dict[str, Winner]:
    """The best setting of each arm where all of a grid was run with the seeds that judge, for guards to look at.

    By the seeds that have every number; none, where no seed has.
    """
    tables = [found.at(Place(arm, setting)) for arm in arms for setting in grid.settings()]
    whole = [seed for seed in seeds if all(seed in of and metric.of(of[seed]) is not None for of in tables)]
    return winners(found, arms, grid, metric, whole) if whole else {}


def _scores(runs: Mapping[float, Run | None], accuracy: Metric) -> dict[float, float | None] | None:
    scores: dict[float, float | None] = {}
    for value, run in runs.items():
        if run is None or accuracy.of(run) is None:
            return None
        scores[value] = None if run.diverged else accuracy.of(run)
    return scores
