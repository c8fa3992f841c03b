"""A study may be extended, and every look at it costs: the group-sequential rule.

A study says before it runs how many pairs it may come to in all (`most`). At a look with n pairs the information is
t = n / most, and the error spent by then is

    a(t) = a * ln(1 + (e - 1) t),

the spending function of Lan and DeMets (1983, doi 10.1093/biomet/70.3.659) for boundaries like Pocock's, which needs no
looks fixed in advance: what was there counts. All looks then have about the same level, so that each extension
narrows the interval nearly as much as its seeds can. A study that may double pays for that with 3.1 % at its first
look instead of 5 % (an interval 13 % wider, at ten pairs); one that may not be extended pays nothing. O'Brien and
Fleming's function saves the error for the last look and would leave the first 0.3 %: right for a trial that should
rarely stop early, wrong where most studies end with their first look.

Intervals are the repeated confidence intervals of Jennison and Turnbull (J. R. Statist. Soc. B 51, 1989): all looks
of a study together cover with 95 %, whoever decides to stop or to go on, and for whatever reason. The boundary is
that of a Brownian motion; its significance level is then used with Student's t, which is exact at the first look and
close at the others (the "significance level approach" of their book of 2000; `bench/coverage.py` measures how close,
also where the number of new pairs depends on what was seen).

Invariant: looks that were taken are part of the input. Judging the same pairs again is the same look.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

ERROR = 0.05
"""In all looks together, both sides together."""
_SMALLEST, _LARGEST = 1e-12, 0.9
"""Errors between which boundaries are computed: p beyond them are given as the end."""


class LookRefused(ValueError):
    """There cannot be such a look: more pairs than the study may have, or fewer than were looked at before."""


@dataclass(frozen=True)
class Looks:
    """How far a study may go, and when it was looked at."""

    most: int
    """Pairs in all; fixed when the study is made."""
    taken: tuple[int, ...] = ()
    """Pairs that each earlier look had."""

    def at(self, pairs: int) -> "Looks":
        """With a look at that many pairs.

        Raises:
            LookRefused: there are more than `most`, or fewer than at the last look.
        """
        if pairs > self.most:
            raise LookRefused(
                f"this study may have {self.most} pairs, not {pairs}: that was fixed before it was first judged"
            )
        if self.taken and pairs < self.taken[-1]:
            raise LookRefused(f"{self.taken[-1]} pairs were there at the last look and {pairs} are there now")
        return self if self.taken and pairs == self.taken[-1] else Looks(self.most, (*self.taken, pairs))


def spent(information: float, error: float = ERROR) -> float:
    """a(t) above, for t in 0..1."""
    return error * math.log1p((math.e - 1) * information)


def level(looks: Looks, error: float = ERROR) -> float:
    """The two-sided significance level of the last look that was taken, such that all of them err with `error`."""
    if not looks.taken:
        raise LookRefused("no look was taken")
    return _level(tuple(pairs / looks.most for pairs in looks.taken), error)


def overall_p(nominal: float, looks: Looks) -> float:
    """The error in all looks at which the last would just decide, given the level that its own test just reaches."""
    if len(looks.taken) == 1:
        return min(1.0, nominal / spent(looks.taken[0] / looks.most, 1.0))
    if nominal <= level(looks, _SMALLEST):
        return _SMALLEST
    if nominal >= level(looks, _LARGEST):
        return 1.0
    return float(optimize.brentq(lambda error: level(looks, error) - nominal, _SMALLEST, _LARGEST, xtol=1e-12))


@functools.lru_cache(maxsize=4096)
def _level(times: tuple[float, ...], error: float) -> float:
    """The increments are spent one look after the other by a Brownian motion that has crossed no boundary so far."""
    nodes, mass = np.zeros(1), np.ones(1)
    before, bound, step = 0.0, 0.0, 0.0
    for time in times:
        next_step = math.sqrt(time - before)
        if before:
            nodes, mass = _inside(nodes, mass, bound, step, next_step)
        step = next_step
        bound = _bound(nodes, mass, step, spent(time, error) - spent(before, error), math.sqrt(time))
        before = time
    return float(2 * special.ndtr(-bound / math.sqrt(before)))


def _inside(
    nodes: np.ndarray, mass: np.ndarray, bound: float, step: float, next_step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the motion is after a step that has not led beyond ±bound: nodes close enough for the next step's width."""
    points, weights = _legendre(max(40, math.ceil(8 * bound / next_step)))
    after = bound * points
    distances = (after[:, None] - nodes[None, :]) / step
    density = np.exp(-(distances**2) / 2) @ mass / (step * math.sqrt(2 * math.pi))
    return after, bound * weights * density


def _bound(nodes: np.ndarray, mass: np.ndarray, step: float, spend: float, scale: float) -> float:
    """The value beyond which a motion that was at `nodes` with `mass` ends with probability `spend`, a step later."""

    def excess(bound: float) -> float:
        beyond = special.ndtr((nodes - bound) / step) + special.ndtr((-bound - nodes) / step)
        return float(beyond @ mass) - spend

    return float(optimize.brentq(excess, 0.0, 12 * scale, xtol=1e-13))


@functools.cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    points, weights = np.polynomial.legendre.leggauss(count)
    return points, weights
