"""Which points of a bracket go on from a rung of successive halving, and which are ended.

Invariant: a pure function of the values at the rung: who was there first, who asks, and in which order the points and
their seeds come, changes nothing. Torch-free.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bncore import moments

MEASURED, LOST, UNKNOWN = "measured", "lost", "unknown"
"""All seeds have a number; or one diverged or has none; or one failed, was cancelled or deleted, which says nothing."""
_CLASSES = {MEASURED: 0, LOST: 1, UNKNOWN: 2}


@dataclass(frozen=True)
class Contender:
    """A point at a rung; `values` are those of its seeds, where it is measured."""

    point: int
    outcome: str
    values: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        """Over the seeds, in whatever order they come."""
        return moments.mean(self.values) if self.outcome == MEASURED else None


@dataclass(frozen=True)
class Ranked:
    """A point and its place, counted from 1."""

    point: int
    rank: int
    outcome: str
    mean: float | None
    kept: bool


def contender(point: int, seeds: int, values: Iterable[float | None], *, is_known: bool) -> Contender:
    """A point that is to have so many seeds. Of one that diverged the value is None; `is_known` is false where one
    failed or was cancelled."""
    found = list(values)
    if not is_known or len(found) != seeds:
        return Contender(point, UNKNOWN)
    numbers = tuple(value for value in found if value is not None and math.isfinite(value))
    return Contender(point, MEASURED, numbers) if len(numbers) == seeds else Contender(point, LOST)


def ranked(contenders: Sequence[Contender], kept: int, *, higher_is_better: bool) -> list[Ranked]:
    """From the best on; so many go on. Those that are measured come before those that are lost, and these before those
    of which nothing is known; ties are broken by the point's number."""
    sign = -1.0 if higher_is_better else 1.0

    def place(one: Contender) -> tuple[int, float, int]:
        return _CLASSES[one.outcome], sign * (one.mean or 0.0), one.point

    order = sorted(contenders, key=place)
    return [
        Ranked(one.point, rank, one.outcome, one.mean, kept=rank <= kept) for rank, one in enumerate(order, start=1)
    ]
