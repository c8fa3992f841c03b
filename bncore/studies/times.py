"""When the arms of a study reached their target, those that did not included (Kaplan and Meier 1958)."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bncore.studies.estimand import Reaching


@dataclass(frozen=True)
class Times:
    """Of one arm."""

    seeds: int
    reached: int
    median: float | None
    """The time by which half of the seeds had reached it, by Kaplan and Meier; None if fewer than half did."""

    @property
    def fraction_reached(self) -> float:
        return self.reached / self.seeds


def times(reaching: Reaching) -> Times:
    when = np.asarray(reaching.times, dtype=np.float64)
    there = np.asarray(reaching.reached, dtype=bool)
    if not there.any():
        return Times(len(when), 0, None)
    survival = stats.ecdf(stats.CensoredData(when[there], right=when[~there])).sf
    # The rounding of a product of fractions must not carry the curve past one half.
    past = np.flatnonzero(survival.probabilities <= 0.5 + 1e-12)
    return Times(len(when), int(there.sum()), float(survival.quantiles[past[0]]) if past.size else None)
