"""What is compared of a run: one number of it, and what can keep it from having one.

A name is a key of a series (its last value), the same with `:first`, `:min` or `:max`, or one of `best`,
`steps_to_target` and `seconds`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore import moments
from bncore.spec.wording import series_here

BEST, STEPS_TO_TARGET, SECONDS = "best", "steps_to_target", "seconds"
NO_SERIES = (BEST, STEPS_TO_TARGET, SECONDS)
"""What the summary of a run says."""
_PARTS = ("first", "last", "min", "max")


class MeasureUnknown(ValueError):
    """No run has what was asked for; `name` is that."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        there = ", ".join([*NO_SERIES, *known])
        here = series_here(name)
        meant = f" did you mean {here}{_needing(series_key(here), known)}?" * (here != name)
        super().__init__(
            f"No run that is compared has {name};{meant} there are {there}; a series may end in :min, :max, :first"
        )
        self.name = name


def _needing(key: str, known: Sequence[str]) -> str:
    return ", which needs data.validation" if key.startswith("validation/") and key not in known else ""


@dataclass(frozen=True)
class Ends:
    """A series in four numbers: least and greatest of its finite points, NaN where there are none."""

    first: float
    last: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Measure:
    """One number of a run."""

    name: str
    key: str | None
    """The series it is of; None for what the summary says."""
    part: str = "last"

    @property
    def larger_is_better(self) -> bool:
        """As its name has it; losses, steps, seconds and errors are better small. Of `best` the runs say it."""
        return "accuracy" in self.name

    def of(self, summary: Mapping[str, Any], series: Mapping[str, Ends]) -> float | None:
        """The number, or None where the run has none. May be NaN or infinite."""
        if self.key is not None:
            ends = series.get(self.key)
            return None if ends is None else _part(ends, self.part)
        found = summary.get(self.name)
        if self.name == BEST:
            found = found.get("value") if isinstance(found, Mapping) else None
        return None if found is None else float(found)


@dataclass(frozen=True)
class Cell:
    """One measure over the seeds of a group. `values` are those that are averaged."""

    values: Mapping[int, float]
    """By seed."""
    not_reached: int = 0
    """Runs with a target that ended without it."""
    diverged: int = 0
    """Left out since their last numbers are those of another step than the others'."""
    not_finite: int = 0
    missing: int = 0
    """Ended, and without such a number."""

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return moments.mean([*self.values.values()]) if self.values else None

    @property
    def sd(self) -> float | None:
        """Of a sample (n - 1 degrees of freedom); None of fewer than two."""
        return moments.sd([*self.values.values()]) if self.n > 1 else None


def measures(names: Sequence[str], known: Iterable[str]) -> list[Measure]:
    """What the names mean, where `known` are the keys of all series of all runs. Raises `MeasureUnknown`."""
    keys = frozenset(known)
    return [_measure(name, keys) for name in dict.fromkeys(names)]


def series_key(name: str) -> str:
    """The series that a name may be about; asked for before it is known which there are."""
    key, colon, part = name.rpartition(":")
    return key if colon and part in _PARTS else name


def _measure(name: str, known: frozenset[str]) -> Measure:
    if name in NO_SERIES:
        return Measure(name, None)
    key = series_key(name)
    if key not in known:
        raise MeasureUnknown(name, known)
    return Measure(name, key, name.rpartition(":")[2] if key != name else "last")


def _part(ends: Ends, part: str) -> float:
    return {"first": ends.first, "last": ends.last, "min": ends.minimum, "max": ends.maximum}[part]
