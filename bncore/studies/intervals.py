"""What n paired effects say of their mean: an interval, and two checks of it.

Student's t is primary, since it covers at the n of a study; the percentile bootstrap of a mean covers 82 % at n = 5
and 90 % at n = 10 where 95 % is written on it, and a sign-flip test cannot fall below 2 / 2^n. Both stand beside it,
and decide nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from bncore import moments
from bncore.studies.margin import Interval, Margin

ENUMERATED = 20
"""Up to that many pairs all 2^n signs are counted: 2^19 sums, 4 MiB."""
DRAWN = 100_000
"""Signs drawn beyond: the Monte Carlo error of p = .05 is .0007."""
RESAMPLES = 10_000
BOOTSTRAP_FLOOR = 10
_SEED = 20150211
"""Of everything drawn here: the same effects give the same answer."""


def t_interval(effects: Sequence[float], level: float) -> Interval:
    """mean ± t * sd / sqrt(n), two-sided with error `level` in all (0.05 for 95 %); equal effects give a point."""
    mean, error = mean_and_error(effects)
    reach = -float(special.stdtrit(len(effects) - 1, level / 2)) * error
    return Interval(mean - reach, mean + reach)


def p_of_decision(effects: Sequence[float], margin: Margin) -> float:
    """The smallest level at which the t interval decides, for or against."""
    mean, error = mean_and_error(effects)
    if margin.kind != "equality":
        return min(1.0, 2 * min(_tails(margin.past(margin.threshold, mean), error, len(effects))))
    low, high = (_tails(margin.past(edge, mean), error, len(effects)) for edge in (margin.equal.low, margin.equal.high))
    inside, outside = 2 * max(low.above, high.below), 2 * min(low.below, high.above)
    return min(inside, outside, 1.0)


def p_of_no_effect(effects: Sequence[float]) -> float:
    """Of the two-sided paired t test."""
    return min(1.0, 2 * min(_tails(*mean_and_error(effects), len(effects))))


def sign_flip_p(effects: Sequence[float]) -> float:
    """How often signs drawn by lot give a mean as far from 0, two-sided (Fisher 1935, section 21).

    Exact up to `ENUMERATED` pairs; beyond, (hits + 1) / (drawn + 1) of a seeded draw (Phipson and Smyth 2010).
    """
    sizes = np.asarray(effects, dtype=np.float64)
    # Sums that differ only by rounding are equal.
    seen = abs(math.fsum(effects)) - 1e-12 * float(np.abs(sizes).sum())
    if len(sizes) <= ENUMERATED:
        return float(np.mean(np.abs(_signed_sums(sizes)) >= seen))
    random = np.random.default_rng(_SEED)
    hits = 0
    for _ in range(DRAWN // 1000):
        hits += int(np.sum(np.abs(random.choice((-1.0, 1.0), size=(1000, len(sizes))) @ sizes) >= seen))
    return (hits + 1) / (DRAWN + 1)


def bootstrap_interval(effects: Sequence[float], level: float) -> Interval | None:
    """Percentiles of resampled means; None below `BOOTSTRAP_FLOOR` pairs, where it covers too little."""
    if len(effects) < BOOTSTRAP_FLOOR:
        return None
    sizes = np.asarray(effects, dtype=np.float64)
    drawn = np.random.default_rng(_SEED).integers(len(sizes), size=(RESAMPLES, len(sizes)))
    low, high = np.quantile(sizes[drawn].mean(axis=1), (level / 2, 1 - level / 2))
    return Interval(float(low), float(high))


def mean_and_error(effects: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, of at least two; sums do not depend on the order."""
    return moments.mean(effects), moments.standard_error(effects)


class _Tails(NamedTuple):
    """Of one-sided t tests, each by itself: 1 less the other would be 0 where it is smallest."""

    above: float
    """p of "the mean is not above"."""
    below: float


def _tails(past: float, error: float, n: int) -> _Tails:
    """Of a mean that lies so far above a value. Equal effects leave no doubt, and where they equal the value all."""
    if error == 0:
        return _Tails(0.5, 0.5) if past == 0 else _Tails(float(past < 0), float(past > 0))
    above, below = (float(special.stdtr(n - 1, sign * past / error)) for sign in (-1, 1))
    return _Tails(above, below)


def _signed_sums(sizes: np.ndarray) -> np.ndarray:
    """All sums of ±x, but for their common sign: shape (2^(n-1),)."""
    sums = sizes[:1]
    for size in sizes[1:]:
        sums = np.concatenate((sums + size, sums - size))
    return sums
