"""Claims that something trains at all: counted, by setting, without a mean.

Holds if at every setting at least `high` of the treatment's seeds train and at most `low` of the baseline's, and
Fisher's exact test of the setting that separates them least has p < .01. Does not hold if at some setting an exact
interval (Clopper and Pearson 1934, 95 %) excludes that.
"""

import numpy as np
from scipy import stats

from bncore.studies.margin import Outcome
from bncore.studies.verdict import Fractions

SIGNIFICANCE = 0.01


def decided(asked: Fractions) -> tuple[Outcome, float]:
    """The outcome, and the largest p of any setting."""
    p = max(_fisher(asked.treatment[at], asked.baseline[at]) for at in asked.treatment)
    trains = all(_share(of) >= asked.high for of in asked.treatment.values())
    fails = all(_share(of) <= asked.low for of in asked.baseline.values())
    if trains and fails and p < SIGNIFICANCE:
        return "holds", p
    refuted = any(_bounds(*of)[1] < asked.high for of in asked.treatment.values())
    refuted |= any(_bounds(*of)[0] > asked.low for of in asked.baseline.values())
    return ("does_not_hold" if refuted else "inconclusive"), p


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1]


def _fisher(ours: tuple[int, int], theirs: tuple[int, int]) -> float:
    """Two-sided; rows arms, columns trained and not."""
    table = np.array([[ours[0], ours[1] - ours[0]], [theirs[0], theirs[1] - theirs[0]]])
    return float(stats.fisher_exact(table).pvalue)


def _bounds(trained: int, seeds: int) -> tuple[float, float]:
    interval = stats.binomtest(trained, seeds).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
