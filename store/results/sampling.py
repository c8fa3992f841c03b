"""Fewer points that look the same.

Invariant: a spike never vanishes: of every bucket the first, last, smallest and largest point stay, and non-finite
points stay as long as they fit; the answer never has more points than asked for. A bucket is so many consecutive
points, so what is known of segments says which of them have to be read: a few a bucket, one at a time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.results.segments import Steps, Values

MIN_POINTS = 10
"""Fewer cannot hold one bucket with its non-finite point and look like anything."""

Places = npt.NDArray[np.int64]
_POINT = np.dtype([("at", np.int64), ("step", np.int64), ("value", np.float64)])
_Points = npt.NDArray[np.void]


@dataclass(frozen=True)
class Parts:
    """What is known of the segments of a series, in order, without reading their points."""

    counts: Places
    minima: Values
    """Of finite points; NaN where there are none."""
    maxima: Values
    nonfinite: Places

    @property
    def starts(self) -> Places:
        """How many points come before each."""
        return np.cumsum(self.counts) - self.counts


def sample(steps: Steps, values: Values, max_points: int) -> tuple[Steps, Values]:
    """At most `max_points` (10 or more) of the points, in order."""
    outline = Outline(len(values), int(np.count_nonzero(~np.isfinite(values))), max_points)
    if len(steps) <= max_points:
        return steps, values
    outline.add(0, steps, values)
    return outline.points()


class Outline:
    """The points that stay of `count`, of which so many are not finite; made from some of them, added in order."""

    def __init__(self, count: int, nonfinite: int, max_points: int) -> None:
        if max_points < MIN_POINTS:
            raise ValueError(f"max_points is at least {MIN_POINTS}")
        # Too many to show: the first of each bucket says where they are.
        self._shows_each = nonfinite <= max_points // 2
        wanted = (max_points - nonfinite) // 4 if self._shows_each else max_points // 5
        self._width = max(1, -(-count // wanted))
        self._count = count
        buckets = -(-count // self._width)
        self._lowest, self._highest = np.full(buckets, np.inf), np.full(buckets, np.inf)
        self._low, self._high, self._first, self._last, self._odd = (_nowhere(buckets) for _ in range(5))
        self._each: list[_Points] = []

    def wanted(self, parts: Parts) -> npt.NDArray[np.intp]:
        """Which parts have to be added: the others have no point that stays."""
        starts = parts.starts
        first, last = starts // self._width, (starts + parts.counts - 1) // self._width
        # A bucket's first and last point, and what reaches over its end.
        edge = (first != last) | (starts % self._width == 0) | ((starts + parts.counts) % self._width == 0)
        edge[-1] = True
        # Of those that reach over an end nobody knows on which side their extremes are; they are read anyway.
        inside = first == last
        lowest = _first_least(np.where(inside, parts.minima, np.nan), first)
        highest = _first_least(np.where(inside, -parts.maxima, np.nan), first)
        odd = np.flatnonzero(parts.nonfinite)
        if not self._shows_each:
            odd = odd[np.unique(first[odd], return_index=True)[1]]
        return np.union1d(np.flatnonzero(edge), np.concatenate([lowest, highest, odd]))

    def add(self, start: int, steps: Steps, values: Values) -> None:
        """Some consecutive points, of which `start` come before."""
        at = np.arange(start, start + len(values))
        bucket = at // self._width

        def points(places: npt.NDArray[np.intp]) -> _Points:
            found = np.empty(len(places), dtype=_POINT)
            found["at"], found["step"], found["value"] = at[places], steps[places], values[places]
            return found

        begins = np.flatnonzero(at % self._width == 0)
        ends = np.flatnonzero((at % self._width == self._width - 1) | (at == self._count - 1))
        self._first[bucket[begins]], self._last[bucket[ends]] = points(begins), points(ends)
        odd = np.flatnonzero(~np.isfinite(values))
        finite = values.copy()
        finite[odd] = np.nan
        for kept, least, these in ((self._low, self._lowest, finite), (self._high, self._highest, -finite)):
            firsts = _first_least(these, bucket)
            # Unless an earlier part had one as small.
            better = firsts[these[firsts] < least[bucket[firsts]]]
            kept[bucket[better]], least[bucket[better]] = points(better), these[better]
        if self._shows_each:
            self._each.append(points(odd))
            return
        firsts = odd[np.unique(bucket[odd], return_index=True)[1]]
        new = firsts[self._odd["at"][bucket[firsts]] < 0]
        self._odd[bucket[new]] = points(new)

    def points(self) -> tuple[Steps, Values]:
        """What stays of what was added."""
        kept = np.concatenate([self._first, self._last, self._low, self._high, self._odd, *self._each])
        kept = kept[kept["at"] >= 0]
        kept = kept[np.unique(kept["at"], return_index=True)[1]]
        return np.ascontiguousarray(kept["step"]), np.ascontiguousarray(kept["value"])


def _first_least(values: Values, group: Places) -> npt.NDArray[np.intp]:
    """The places of the first of the least values of each group; groups come in order. Passes over NaN."""
    places = np.flatnonzero(~np.isnan(values))
    if not len(places):
        return places
    if len(places) < len(values):
        values, group = values[places], group[places]
    begins = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    least = np.repeat(np.minimum.reduceat(values, begins), np.diff(np.concatenate([begins, [len(values)]])))
    smallest = np.flatnonzero(values == least)
    return places[smallest[np.unique(group[smallest], return_index=True)[1]]]


def _nowhere(count: int) -> _Points:
    points = np.zeros(count, dtype=_POINT)
    points["at"] = -1
    return points
