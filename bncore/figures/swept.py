"""What figures of sweeps are made of: a table with a row a point, and a number a seed.

Invariant: a point has a mean over all of its seeds, or none. Where one has diverged or has no number, the mean of the
others would be of those that went well; such a point is shown as lost.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore import moments
from bncore.figures.bands import t_quantile
from bncore.figures.document import number
from bncore.figures.results import FigureRefused
from bncore.spec.wording import meant_or_all

_LOG_FROM = 10.0
"""The ratio of greatest and least positive value from which on an axis is logarithmic."""
_MOST_VALUES = 60
LOST, PRUNED = "lost", "pruned"
MARKS = {LOST: "×", PRUNED: "▼"}
"""Where a point has no mean, what stands in its place."""
_SAID = {LOST: "a seed or more diverged, or has no such number", PRUNED: "ended early, behind other points"}


@dataclass(frozen=True)
class SweptPoint:
    """One point."""

    point: int
    values: Mapping[str, Any]
    """Of the axes, by their paths."""
    arm: str | None
    numbers: tuple[float, ...]
    """Of the seeds that have one."""
    lost: int = 0
    """Seeds that ended without one."""
    unfinished: int = 0
    pruned_at: int | None = None
    """The step at which it was ended behind others."""

    @property
    def mean(self) -> float | None:
        if not self.numbers or self.lost or self.unfinished or self.pruned_at is not None:
            return None
        return moments.mean(self.numbers)

    @property
    def fate(self) -> str | None:
        """Why it will never have a mean, where that is so."""
        if self.pruned_at is not None:
            return PRUNED
        return LOST if self.lost else None

    @property
    def reach(self) -> float:
        """Half of the 95 % interval of the mean by Student's t; NaN of one seed."""
        n = len(self.numbers)
        if self.mean is None or n < 2:
            return math.nan
        return t_quantile(n - 1) * moments.sd(self.numbers) / math.sqrt(n)


@dataclass(frozen=True)
class Swept:
    """A sweep, and what is looked at of it."""

    axes: tuple[str, ...]
    arms: tuple[str, ...]
    measure: str
    larger_is_better: bool
    points: tuple[SweptPoint, ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes that have several values."""
        return tuple(axis for axis in self.axes if len(self.along(axis)) > 1)

    def along(self, axis: str) -> list[Any]:
        """The different values of an axis: numbers by size, others as they come."""
        found = list({key_of(point.values[axis]): point.values[axis] for point in self.points}.values())
        return sorted(found) if are_numbers(found) else found

    def best(self, points: Iterable[SweptPoint]) -> SweptPoint | None:
        """Of those that have a mean."""
        sign = -1.0 if self.larger_is_better else 1.0
        there = [point for point in points if point.mean is not None]
        return min(there, key=lambda point: (sign * (point.mean or 0.0), point.point), default=None)

    def said(self, shown: Sequence[str]) -> str:
        """What a reader has to know: what was chosen over, and what is not there."""
        words = []
        others = [axis for axis in self.varied if axis not in shown]
        if others:
            words.append(f"at the best {', '.join(others)}")
        seeds = {len(point.numbers) for point in self.points if point.mean is not None}
        if seeds and max(seeds) > 1:
            words.append(f"means of {min(seeds)}{f' to {max(seeds)}' * (len(seeds) > 1)} seeds")
        waiting = sum(1 for point in self.points if point.unfinished)
        if waiting:
            words.append(f"{waiting} of {len(self.points)} points have not ended")
        return "; ".join(words)


def swept_of(document: Mapping[str, Any]) -> Swept:
    """From JSON: the fields of `Swept`, and of each point those of `SweptPoint`."""
    points = tuple(SweptPoint(**{**one, "numbers": tuple(one["numbers"])}) for one in document["points"])
    axes, arms = tuple(document["axes"]), tuple(document["arms"])
    return Swept(axes, arms, document["measure"], document["larger_is_better"], points)


def require_axis(swept: Swept, axis: str | None, others: Sequence[str] = ()) -> str:
    """The axis that is asked for, else the first with several values. Raises `FigureRefused`."""
    free = [one for one in swept.varied if one not in others]
    if axis is None and not free:
        raise FigureRefused("too_few_axes", "The sweep has too few axes with several values for this figure")
    chosen = free[0] if axis is None else axis
    if chosen not in swept.axes:
        detail = f"There is no axis {chosen}; {meant_or_all(chosen, swept.axes)}"
        raise FigureRefused("no_such_axis", detail[:1000])
    if len(swept.along(chosen)) > _MOST_VALUES:
        detail = f"The axis {chosen} has {len(swept.along(chosen))} values; this figure shows at most {_MOST_VALUES}"
        raise FigureRefused("too_many_values", f"{detail}: parallel_coordinates shows drawn ones")
    return chosen


def said_of(fates: Iterable[str], marks: Mapping[str, str] = MARKS) -> str:
    """What the marks of those mean that have no mean."""
    there = set(fates)
    return "; ".join(f"{marks[fate]} {_SAID[fate]}" for fate in marks if fate in there)


def cells(swept: Swept, key: Callable[[SweptPoint], Any]) -> list[tuple[Any, SweptPoint | None, str | None]]:
    """By key, the best point of those that have it; and of those without any, why: lost where one is."""
    groups: dict[Any, list[SweptPoint]] = {}
    for point in swept.points:
        groups.setdefault(key(point), []).append(point)
    fates = {at: {point.fate for point in some} for at, some in groups.items()}
    return [
        (at, swept.best(some), next((fate for fate in MARKS if fate in fates[at]), None)) for at, some in groups.items()
    ]


def require_drawable(swept: Swept) -> None:
    """Raises `FigureRefused` where no point has a number yet."""
    if all(point.mean is None for point in swept.points):
        detail = f"No point has a number of {swept.measure} in all of its seeds yet"
        raise FigureRefused("nothing_to_draw", detail)


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether all are numbers, which true and false are not."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def is_log(values: Sequence[Any]) -> bool:
    """Whether these values of an axis are shown by their logarithms."""
    return are_numbers(values) and min(values) > 0 and max(values) / min(values) > _LOG_FROM


def key_of(value: Any) -> str:
    """As text: what tells two values of an axis apart."""
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        kind = value.get("kind")
        rest = ", ".join(f"{name} {key_of(inner)}" for name, inner in value.items() if name != "kind")
        return " ".join(part for part in (str(kind) if kind else "", f"({rest})" if rest else "") if part) or "{}"
    if isinstance(value, list | tuple):
        return "-".join(map(key_of, value)) or "[]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def short(value: float) -> str:
    """A value of an axis as a label."""
    found = number(value)
    return "" if found is None else f"{found:.3g}"
