"""Fewer points that look the same.

Invariant: a spike never vanishes: of every bucket the first, last, smallest and largest point stay, and non-finite
points stay as long as they fit; the answer never has more points than asked for.
"""

import numpy as np
import numpy.typing as npt

from store.results.segments import Steps, Values

MIN_POINTS = 10
"""Fewer cannot hold one bucket with its non-finite point and look like anything."""


def sample(steps: Steps, values: Values, max_points: int) -> tuple[Steps, Values]:
    """At most `max_points` (10 or more) of the points, in order."""
    if max_points < MIN_POINTS:
        raise ValueError(f"max_points is at least {MIN_POINTS}")
    if len(steps) <= max_points:
        return steps, values
    chosen = _chosen(values, max_points)
    return steps[chosen], values[chosen]


def _chosen(values: Values, max_points: int) -> npt.NDArray[np.intp]:
    nonfinite = np.flatnonzero(~np.isfinite(values))
    if len(nonfinite) > max_points // 2:
        # Too many to show: the first of each bucket says where they are.
        buckets = max_points // 5
        _, firsts = np.unique(nonfinite // _width(len(values), buckets), return_index=True)
        nonfinite = nonfinite[firsts]
    else:
        buckets = (max_points - len(nonfinite)) // 4
    return np.union1d(_outline(values, _width(len(values), buckets)), nonfinite)


def _width(points: int, buckets: int) -> int:
    return -(-points // buckets)


def _outline(values: Values, width: int) -> npt.NDArray[np.intp]:
    """First, last, smallest and largest of each bucket of `width` points."""
    count = len(values)
    starts = np.arange(0, count, width)
    padded = np.full(len(starts) * width, np.nan)
    padded[:count] = values
    grid = padded.reshape(len(starts), width)
    finite = np.isfinite(grid)
    lowest = starts + np.where(finite, grid, np.inf).argmin(axis=1)
    highest = starts + np.where(finite, grid, -np.inf).argmax(axis=1)
    ends = np.minimum(starts + width, count) - 1
    return np.unique(np.concatenate([starts, ends, lowest, highest]))
