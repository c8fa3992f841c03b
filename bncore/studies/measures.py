"""From an experiment's stored series to the numbers a study compares.

Invariant: a number that is not there is left out, and an event that did not come is None; a study treats the two
differently.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bncore.studies.sums import total

Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""By key, steps ascending and values."""
DIVERGED_LOSS = 1e3
"""Training that has gone beyond it has not come back (Bjorck et al., arXiv 1806.02375, section 3.1)."""


@dataclass(frozen=True)
class Final:
    """The last value of a series."""

    series: str

    @property
    def name(self) -> str:
        return self.series

    def of(self, _steps: Sequence[int], values: Sequence[float]) -> float | None:
        return values[-1]


@dataclass(frozen=True)
class AtStep:
    """The value at a step; 0 is at initialization."""

    series: str
    step: int

    @property
    def name(self) -> str:
        return f"{self.series}@{self.step}"

    def of(self, steps: Sequence[int], values: Sequence[float]) -> float | None:
        return values[steps.index(self.step)]


@dataclass(frozen=True)
class FirstReaching:
    """The step of the first value at a threshold, or better; None: there was none."""

    series: str
    threshold: float
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        return f"steps until {self.series} {'>=' if self.higher_is_better else '<='} {self.threshold:g}"

    def of(self, steps: Sequence[int], values: Sequence[float]) -> float | None:
        there = (value >= self.threshold if self.higher_is_better else value <= self.threshold for value in values)
        return next((float(step) for step, reached in zip(steps, there, strict=True) if reached), None)


@dataclass(frozen=True)
class MeanOverSteps:
    """The mean of a series over training, by trapezoids between its steps: the area under the curve per step."""

    series: str
    over: tuple[int, int] | None = None
    """The first and the last step that count; None: all."""

    @property
    def name(self) -> str:
        stretch = f" over steps {self.over[0]} to {self.over[1]}" if self.over else ""
        return f"mean of {self.series}{stretch}"

    def of(self, steps: Sequence[int], values: Sequence[float]) -> float | None:
        first, last = self.over or (steps[0], steps[-1])
        points = [(step, value) for step, value in zip(steps, values, strict=True) if first <= step <= last]
        if not points:
            return None
        steps, values = [step for step, _ in points], [value for _, value in points]
        area = total((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))
        return area / (steps[-1] - steps[0]) if len(points) > 1 else values[-1]


@dataclass(frozen=True)
class Greatest:
    """The greatest value of a series; NaN is none."""

    series: str

    @property
    def name(self) -> str:
        return f"greatest {self.series}"

    def of(self, _steps: Sequence[int], values: Sequence[float]) -> float | None:
        return max((value for value in values if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True)
class Least:
    """The least value of a series; NaN is none."""

    series: str

    @property
    def name(self) -> str:
        return f"least {self.series}"

    def of(self, _steps: Sequence[int], values: Sequence[float]) -> float | None:
        return min((value for value in values if not math.isnan(value)), default=math.nan)


@dataclass(frozen=True)
class Within:
    """The mean or the median of a series' values at the steps from `first` to `last`.

    A value that is not a number is larger than all: so are losses that have overflowed, and a median may still be
    finite where a mean is not.
    """

    series: str
    first: int
    last: int
    how: Literal["mean", "median"] = "mean"

    @property
    def name(self) -> str:
        return f"{self.how} of {self.series} over steps {self.first} to {self.last}"

    def of(self, steps: Sequence[int], values: Sequence[float]) -> float | None:
        there = [
            math.inf if math.isnan(value) else value
            for step, value in zip(steps, values, strict=True)
            if self.first <= step <= self.last
        ]
        return statistics.median(there) if self.how == "median" else total(there) / len(there)


@dataclass(frozen=True)
class AtLevel:
    """The value of a series, evaluated now and then, when another one of every step has come down to a level: at the
    first evaluation where that one's mean since the evaluation before is at most `level`; None: there was none.

    The mean since then, since the loss of one batch is noise around that of all.
    """

    series: str
    by: str
    level: float

    @property
    def name(self) -> str:
        return f"{self.series} when {self.by} <= {self.level:g}"

    def of(
        self, steps: Sequence[int], values: Sequence[float], by: tuple[Sequence[int], Sequence[float]]
    ) -> float | None:
        known = dict(zip(*by, strict=True))
        for earlier, (step, value) in zip((0, *steps), zip(steps, values, strict=True), strict=False):
            since = [known[one] for one in range(earlier + 1, step + 1) if one in known]
            if since and total(since) / len(since) <= self.level:
                return value
        return None


Measure = Final | AtStep | FirstReaching | MeanOverSteps | Greatest | Least | Within | AtLevel


def needed(measures: Sequence[Measure]) -> frozenset[str]:
    """The series that these are made of."""
    both = (measure.by for measure in measures if isinstance(measure, AtLevel))
    return frozenset((*(measure.series for measure in measures), *both))


def measured(measures: Sequence[Measure], series: Series) -> dict[str, float | None]:
    """By name, of those whose series is there, and has that step."""
    return {
        measure.name: measure.of(*series[measure.series], series[measure.by])
        if isinstance(measure, AtLevel)
        else measure.of(*series[measure.series])
        for measure in measures
        if _is_there(measure, series)
    }


def evaluation_metrics(name: str, result: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers in an evaluation's result, as it is stored: `evaluation/<name>/<metric>` with the statistics that
    were asked for, `evaluation/<name>/before/<metric>` with those of the checkpoint.

    Where there are no such statistics, of weights that diverged, the former are left out.
    """
    before, after = result["before"], result["after"]
    asked = before if after is None and result.get("reason") is None else after or {}
    shown = {f"evaluation/{name}/before": before, f"evaluation/{name}": asked}
    return {
        f"{prefix}/{metric}": float(value)
        for prefix, numbers in shown.items()
        for metric, value in numbers.items()
        if _is_number(value)
    }


def diverged(series: Series) -> bool:
    """Whether the training loss was ever not finite, or beyond `DIVERGED_LOSS`."""
    return any(not value <= DIVERGED_LOSS for value in series.get("train/loss", ((), ()))[1])


def _is_number(value: Any) -> bool:
    """Those that are not finite are words in JSON."""
    return isinstance(value, float | int) or value in ("NaN", "Infinity", "-Infinity")


def _is_there(measure: Measure, series: Series) -> bool:
    if measure.series not in series:
        return False
    steps = series[measure.series][0]
    if isinstance(measure, AtStep):
        return measure.step in steps
    if isinstance(measure, Within):
        return any(measure.first <= step <= measure.last for step in steps)
    if isinstance(measure, AtLevel):
        return measure.by in series
    return len(steps) > 0
