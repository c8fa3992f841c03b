"""A metric series as arrays. Non-finite numbers travel through JSON as strings and come out as floats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def decode_series(answer: Mapping[str, Any]) -> dict[str, Series]:
    """The series of one `GET .../metrics` answer, by key."""
    return {key: _series(key, body) for key, body in answer["series"].items()}


def _series(key: str, body: Mapping[str, Any]) -> Series:
    steps = np.array(body["steps"], dtype=np.int64)
    # float() reads "NaN", "Infinity" and "-Infinity"; numpy would make an array of strings of a mixed list.
    values = np.array([float(value) for value in body["values"]], dtype=np.float64)
    return Series(key=key, steps=steps, values=values, count=int(body.get("count", len(steps))))
