"""Points of a series, packed into segments, and what is known of them without unpacking.

Invariant: steps within a series strictly increase, and a value comes out with the bits it went in with.
"""

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from store.tables import MetricSegment

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

SUMMARY = ("first_step", "last_step", "count", "first", "last", "minimum", "maximum", "nonfinite")
"""What is known of points without unpacking them: columns of a series, and of a segment."""
SEGMENT_POINTS = 65_536
"""At most: 512 KiB of values, so that one row stays small beside a checkpoint chunk."""


@dataclass
class Points:
    """A run of points of one series, while it is being collected."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def segment_values(steps: Steps, values: Values) -> dict[str, Any]:
    """The columns of a segment with these points."""
    finite = values[np.isfinite(values)]
    return {
        "first_step": int(steps[0]),
        "last_step": int(steps[-1]),
        "count": len(steps),
        "first": float(values[0]),
        "last": float(values[-1]),
        "minimum": float(finite.min()) if len(finite) else math.nan,
        "maximum": float(finite.max()) if len(finite) else math.nan,
        "nonfinite": len(values) - len(finite),
        "steps": _pack_steps(steps),
        "points": values.astype("<f8").tobytes(),
    }


def unpack(first_step: int, count: int, steps: bytes, points: bytes) -> tuple[Steps, Values]:
    """The points of a segment."""
    return _unpack_steps(first_step, count, steps), np.frombuffer(points, dtype="<f8").astype(np.float64)


def cut_after(segment: MetricSegment, step: int) -> None:
    """Keep only the points of a segment up to `step`; its first point is one of them."""
    steps, values = unpack(segment.first_step, segment.count, segment.steps, segment.points)
    kept = int(np.searchsorted(steps, step, side="right"))
    for column, value in segment_values(steps[:kept], values[:kept]).items():
        setattr(segment, column, value)


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The summary of a series from those of its parts, in order of steps."""
    total: dict[str, Any] | None = None
    for part in parts:
        total = dict(part) if total is None else _joined(total, part)
    return total


def _joined(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "first_step": left["first_step"],
        "last_step": right["last_step"],
        "count": left["count"] + right["count"],
        "first": left["first"],
        "last": right["last"],
        # fmin and fmax pass over the NaN of a part without finite points.
        "minimum": float(np.fmin(left["minimum"], right["minimum"])),
        "maximum": float(np.fmax(left["maximum"], right["maximum"])),
        "nonfinite": left["nonfinite"] + right["nonfinite"],
    }


def _pack_steps(steps: Steps) -> bytes:
    """Nothing for consecutive steps, the common case; else the compressed differences."""
    differences = np.diff(steps)
    if (differences == 1).all():
        return b""
    return zlib.compress(differences.astype("<i8").tobytes())


def _unpack_steps(first_step: int, count: int, packed: bytes) -> Steps:
    if not packed:
        return np.arange(first_step, first_step + count, dtype=np.int64)
    steps = np.empty(count, dtype=np.int64)
    steps[0] = first_step
    steps[1:] = np.frombuffer(zlib.decompress(packed), dtype="<i8")
    return np.cumsum(steps)
