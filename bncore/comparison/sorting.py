"""Groups in the order that is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from bncore.comparison.grouping import Comparison, Group
from bncore.comparison.measure import BEST


class SortUnknown(ValueError):
    """Neither a measure nor a path of the comparison."""

    def __init__(self, comparison: Comparison) -> None:
        there = ", ".join([*(measure.name for measure in comparison.measures), *comparison.paths])
        super().__init__(f"Nothing here is called so; there are {there}; a minus before it sorts downwards")


def in_order(comparison: Comparison, by: str | None = None) -> Sequence[Group]:
    """The groups sorted by a measure's mean or by a path of the specs, downwards where a minus stands before it.

    By default the first measure, the best first. What has no such value comes last. Raises `SortUnknown`.
    """
    if by is None:
        first = comparison.measures[0] if comparison.measures else None
        return comparison.groups if first is None else _by_measure(comparison, first.name, _is_better_large(comparison))
    name, downwards = by.removeprefix("-"), by.startswith("-")
    if name in {measure.name for measure in comparison.measures}:
        return _by_measure(comparison, name, downwards)
    if name in comparison.paths:
        there = [group for group in comparison.groups if name in group.where]
        absent = [group for group in comparison.groups if name not in group.where]
        return [*sorted(there, key=lambda group: _rank(group.where[name]), reverse=downwards), *absent]
    raise SortUnknown(comparison)


def _is_better_large(comparison: Comparison) -> bool:
    """Of the first measure. `best` is the greatest accuracy or the least loss: its summaries name the series."""
    first = comparison.measures[0]
    if first.name != BEST:
        return first.larger_is_better
    found = [run.summary.get(BEST) for group in comparison.groups for run in group.runs]
    return any("accuracy" in str(best["metric"]) for best in found if isinstance(best, Mapping))


def _by_measure(comparison: Comparison, name: str, downwards: bool) -> list[Group]:
    means = [(group.cells[name].mean, group) for group in comparison.groups]
    there = sorted(((mean, group) for mean, group in means if mean is not None), key=_mean, reverse=downwards)
    return [*(group for _, group in there), *(group for mean, group in means if mean is None)]


def _mean(pair: tuple[float, Group]) -> float:
    return pair[0]


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers by size before all else, which goes by its text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, str(value))
