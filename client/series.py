"""A metric series as arrays. Non-finite numbers travel through JSON as strings and come out as floats."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 100_000
"""What one request may ask for, of each series."""


@dataclass(frozen=True)
class Series:
    """`values[i]` was measured after optimizer step `steps[i]`; `count` points exist, of which these were sent."""

    key: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    count: int

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def complete(self) -> bool:
        """Whether nothing was left out for `max_points`."""
        return len(self.steps) == self.count


def every_point(
    ask: Callable[[int, int | None, int], dict[str, Series]], first: int, last: int | None
) -> dict[str, Series]:
    """All points between two steps, however many: `ask(first, last, max_points)` is one request.

    A series has at most one point a step, so a stretch of `MOST_POINTS` steps comes whole.
    """
    found = ask(first, last, MOST_POINTS)
    if all(series.complete for series in found.values()):
        return found
    # Thinning keeps the ends of a series, so the ends are known even where the middle is missing.
    end = max(int(series.steps[-1]) for series in found.values() if len(series))
    start = min(int(series.steps[0]) for series in found.values() if len(series))
    parts = [ask(at, min(at + MOST_POINTS - 1, end), MOST_POINTS) for at in range(start, end + 1, MOST_POINTS)]
    return {key: _joined(key, [part[key] for part in parts if key in part]) for key in found}


def decode_series(answer: Mapping[str, Any]) -> dict[str, Series]:
    """The series of one `GET .../metrics` answer, by key."""
    return {key: _series(key, body) for key, body in answer["series"].items()}


def _series(key: str, body: Mapping[str, Any]) -> Series:
    steps = np.array(body["steps"], dtype=np.int64)
    # float() reads "NaN", "Infinity" and "-Infinity"; numpy would make an array of strings of a mixed list.
    values = np.array([float(value) for value in body["values"]], dtype=np.float64)
    return Series(key=key, steps=steps, values=values, count=int(body.get("count", len(steps))))


def _joined(key: str, parts: list[Series]) -> Series:
    steps = np.concatenate([part.steps for part in parts])
    return Series(key, steps, np.concatenate([part.values for part in parts]), count=len(steps))
