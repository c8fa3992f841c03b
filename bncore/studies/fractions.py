"""Claims that something trains at all: counted, by setting, without a mean.

Claimed is that at every setting at least `high` of all networks with the treatment train and at most `low` of those
with the baseline. Two settings of two arms are four such statements, seven are fourteen, and what joins them is paid
for:

- It holds if all statements do, each by an exact binomial test of its own at half the level of the look. All have to
  be rejected at once, so that whichever is false is rejected by chance no oftener than by itself: an intersection-union
  test (Berger, Technometrics 24, 1982), which takes no correction.
- It does not hold if any of the k statements is refuted, each at half the level over k (Bonferroni): any of k chances
  to be wrong would do. It needs no independence, which settings that share their seeds do not have.

The level is that of the look (`looks`), so that an extended study pays here as it does for a mean. Tests are exact, and
so err less than they may: shares of ten seeds have few values.

Fisher's test of the setting that separates the arms least stands beside, and decides nothing.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bncore.studies.looks import LookRefused, Looks, level, overall_p, spent
from bncore.studies.margin import Interval, Outcome
from bncore.studies.verdict import Counted, Fractions, Share


@dataclass(frozen=True)
class _Statement:
    """That a share is at least a limit, or, of the baseline, at most."""

    arm: str
    setting: str
    trained: int
    seeds: int
    limit: float
    is_least: bool

    @property
    def p_true(self) -> float:
        """One-sided, of so many or more on its side of the limit, were the share at it."""
        return _tails(self.trained, self.seeds, self.limit)[0 if self.is_least else 1]

    @property
    def p_false(self) -> float:
        """The same of the other side."""
        return _tails(self.trained, self.seeds, self.limit)[1 if self.is_least else 0]


def counted(asked: Fractions, looks: Looks) -> tuple[Outcome, Counted]:
    """The outcome, and all that it rests on.

    Args:
        looks: this one included.
    """
    outcome, p = decided(asked, looks)
    each, significance = tuple(_statements(asked)), level(looks)
    shares = tuple(
        Share(one.arm, one.setting, one.trained, one.seeds, _bounds(one, significance / len(each))) for one in each
    )
    needed = _needed(asked, looks)
    return outcome, Counted(shares, overall_p(p, looks), significance, looks.taken, looks.most, needed)


def decided(asked: Fractions, looks: Looks) -> tuple[Outcome, float]:
    """The outcome, and the smallest level of this look at which it would be decided, for or against; two-sided."""
    each, significance = tuple(_statements(asked)), level(looks)
    holds = min(1.0, 2 * max(one.p_true for one in each))
    fails = min(1.0, 2 * len(each) * min(one.p_false for one in each))
    outcome: Outcome = "holds" if holds < significance else "does_not_hold" if fails < significance else "inconclusive"
    return outcome, min(holds, fails)


def fisher(asked: Fractions) -> float:
    """The largest p of any setting, two-sided."""
    return max(_fisher(asked.treatment[at], asked.baseline[at]) for at in asked.treatment)


def _statements(asked: Fractions) -> Iterator[_Statement]:
    arms: tuple[tuple[str, Mapping[str, tuple[int, int]], float, bool], ...] = (
        (asked.words.treatment, asked.treatment, asked.high, True),
        (asked.words.baseline, asked.baseline, asked.low, False),
    )
    for arm, counts, limit, is_least in arms:
        for at, (trained, seeds) in counts.items():
            yield _Statement(arm, at, trained, seeds, limit, is_least)


def _needed(asked: Fractions, looks: Looks) -> int:
    """Were all shares 1 and 0, the tests of n seeds would have p = limit^n."""
    likely = math.log(max(asked.high, 1 - asked.low))
    seeds = looks.taken[-1]
    while 2 * math.exp(seeds * likely) >= _level_of(seeds, looks):
        seeds += 1
    return seeds


def _level_of(seeds: int, looks: Looks) -> float:
    """Of the next look, or of the first one of a study that begins with so many and may double."""
    try:
        return level(looks.at(seeds))
    except LookRefused:
        return spent(0.5)


@functools.lru_cache(maxsize=4096)
def _tails(trained: int, seeds: int, share: float) -> tuple[float, float]:
    """Of so many or more, and of so many or fewer."""
    return float(stats.binom.sf(trained - 1, seeds, share)), float(stats.binom.cdf(trained, seeds, share))


@functools.lru_cache(maxsize=4096)
def _fisher(ours: tuple[int, int], theirs: tuple[int, int]) -> float:
    """Rows arms, columns trained and not."""
    table = np.array([[ours[0], ours[1] - ours[0]], [theirs[0], theirs[1] - theirs[0]]])
    return float(stats.fisher_exact(table).pvalue)


def _bounds(one: _Statement, error: float) -> Interval:
    interval = stats.binomtest(one.trained, one.seeds).proportion_ci(1 - error, method="exact")
    return Interval(float(interval.low), float(interval.high))
