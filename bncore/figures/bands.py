"""The mean over seeds and how sure it is, step by step.

Invariant: a mean is of all seeds or it is not there. Where one has ended earlier, or is not finite, the others alone
would say something else: that of those who came so far.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bncore.figures.results import Steps, Values

Trace = tuple[npt.NDArray[np.float64], Values]
"""Steps, which may be the middle of several, and values."""
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Band:
    """At some steps, the mean over seeds and the ends of its 95 % interval; NaN where there is one seed."""

    steps: npt.NDArray[np.float64]
    mean: Values
    lower: Values
    upper: Values


def bucketed(series: tuple[Steps, Values], first: int, width: int) -> Trace:
    """The means of every `width` steps from `first` on, at the middle of these; for a width of 1 the points."""
    steps, values = series
    if width == 1 or not len(steps):
        return steps.astype(np.float64), values
    bucket = (steps - first) // width
    begins = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
    counts = np.diff(np.concatenate([begins, [len(steps)]]))
    with np.errstate(over="ignore", invalid="ignore"):
        means: Values = np.add.reduceat(values, begins) / counts
    return (first + bucket[begins] * width + (width - 1) / 2).astype(np.float64), means


def band(traces: Sequence[Trace]) -> Band:
    """Mean and 95 % interval, mean ± t(n - 1) s / sqrt(n), at the steps at which all n traces have a finite value.

    Left out are steps at which the mean or its interval is beyond all numbers.
    """
    finite = [(steps[np.isfinite(values)], values[np.isfinite(values)]) for steps, values in traces]
    steps, counts = np.unique(np.concatenate([one for one, _ in finite]), return_counts=True)
    steps = steps[counts == len(traces)]
    table = np.stack([values[np.isin(own, steps)] for own, values in finite])
    if len(traces) == 1:
        nowhere = np.full(len(steps), math.nan)
        return Band(steps, table[0], nowhere, nowhere)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = table.mean(axis=0)
        half = t_quantile(len(traces) - 1) * table.std(axis=0, ddof=1) / math.sqrt(len(traces))
        found = np.stack([mean, mean - half, mean + half])
    # Finite values can be too large for a sum of squares.
    there = np.isfinite(found).all(axis=0)
    return Band(steps[there], *found[:, there])


@functools.cache
def t_quantile(degrees: int) -> float:
    """Student's t that 95 % of the distribution lie within, of so many degrees of freedom.

    Not SciPy's, which is in no extra that draws figures but the service's; a test holds the two together.
    """
    low, high = 0.0, 20.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < _CONFIDENCE else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """P(|T| < t): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    is_odd = degrees % 2 == 1
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for number in range(3 if is_odd else 2, degrees, 2):
        term *= cosine * cosine * (number - 1) / number
        total += term
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total
