"""What a number of seeds can tell, and how many more would probably tell it.

Both take the spread between seeds for what it was seen to be.
"""

import math

import numpy as np
from scipy import special, stats

from bncore.studies.intervals import mean_and_error
from bncore.studies.looks import LookRefused, Looks, level
from bncore.studies.margin import Margin

PROBABLY = 0.8
"""That is how sure "probably" is: the usual power of a planned experiment."""
_CERTAIN = 1e6
"""Margins in standard errors of the mean from which on SciPy's noncentral t gives no number, or 1."""
_QUANTILES = (np.arange(2000) + 0.5) / 2000


def power(pairs: int, sd: float, margin: Margin, significance: float) -> float:
    """How often the interval would decide, were the truth one margin away from what it is compared with.

    For superiority by delta that is: with no effect the interval lies below delta, with an effect of 2 delta above;
    both as often, by the upper tail of the noncentral t with delta sqrt(n) / sd. For equality it is: with no
    difference at all, the interval lies within ±epsilon.
    """
    if sd == 0:
        return 1.0
    shift = margin.value * math.sqrt(pairs) / sd
    critical = -float(special.stdtrit(pairs - 1, significance / 2))
    if margin.kind != "equality":
        if shift > _CERTAIN:
            return 1.0
        return float(stats.nct.sf(critical, pairs - 1, shift))
    # Given the sample's sd, the mean has to lie within what the interval leaves of ±epsilon.
    sds = np.sqrt(special.chdtri(pairs - 1, _QUANTILES) / (pairs - 1))
    return float(np.mean(np.clip(2 * special.ndtr(shift - critical * sds) - 1, 0, None)))


def extra_seeds(effects: tuple[float, ...], margin: Margin, looks: Looks) -> int | None:
    """The fewest seeds more after which the interval would decide with a probability of `PROBABLY`.

    Predictive: given what was seen, the mean of n pairs and m more differs from the mean of the n by t_{n-1} * sd *
    sqrt(m / (n (n + m))) (a flat prior; Spiegelhalter, Freedman and Blackburn 1986). None: more than the study may be
    extended by.
    """
    pairs = len(effects)
    mean, error = mean_and_error(effects)
    sd = error * math.sqrt(pairs)
    room = looks.most - pairs
    if room < 1 or sd == 0 or not _likely(room, pairs, mean, sd, margin, looks):
        return None
    low, high = 0, room
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _likely(middle, pairs, mean, sd, margin, looks) else (middle, high)
    return high


def _likely(more: int, pairs: int, mean: float, sd: float, margin: Margin, looks: Looks) -> bool:
    try:
        significance = level(looks.at(pairs + more))
    except LookRefused:
        return False
    reach = -float(special.stdtrit(pairs + more - 1, significance / 2)) * sd / math.sqrt(pairs + more)
    spread = sd * math.sqrt(more / (pairs * (pairs + more)))

    def below(value: float) -> float:
        return float(special.stdtr(pairs - 1, (value - mean) / spread))

    if margin.kind != "equality":
        return 1 - below(margin.threshold + reach) + below(margin.threshold - reach) >= PROBABLY
    low, high = margin.equal.low, margin.equal.high
    inside = max(0.0, below(high - reach) - below(low + reach))
    return inside + 1 - below(high + reach) + below(low - reach) >= PROBABLY
