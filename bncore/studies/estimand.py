"""From runs to one effect a seed, oriented so that a claim that is true makes it positive.

Times to a target that was not reached within the budget T are censored, and stay in: what is estimated is the mean of

    ln( min(t_baseline, T) / min(t_treatment, T) ),

the paired, logarithmic relative of the restricted mean survival time (Royston and Parmar 2013, doi
10.1186/1471-2288-13-152): that has a value, and an interval with coverage, whatever lies beyond T. How it is related
to the ratio of the times themselves depends on who was censored, and `Bounds` counts that: `margin.decided` never
draws a conclusion from the wrong side of a bound.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bncore.studies.results import Metric, Place, Results, ResultsUnfit, Run

Scale = Literal["value", "difference", "log_ratio", "log_time_ratio"]
BoundKind = Literal["exact", "lower", "upper", "neither"]
_ROUNDING = 1e-12
"""Of the numbers compared: what a mean of their differences has to exceed to be one. They have some sixteen digits."""
_LARGEST = 1e150
"""What is larger has no square, and so no deviation: a ratio of such numbers has."""


@dataclass(frozen=True)
class Estimand:
    """What is estimated, as a mean over seeds.

    `difference` and `log_ratio` compare an arm with another at the same seed; `value` is the metric of one arm (the
    baseline is not looked at); `log_time_ratio` compares times until something happened.
    """

    metric: Metric
    scale: Scale = "difference"
    budget: float | None = None
    """T, for times: in what the metric counts, steps as a rule."""
    first: float | None = None
    """For times: the first at which anybody looked. Who was there by then may have been there long before."""

    def __post_init__(self) -> None:
        if self.scale == "log_time_ratio" and not (self.budget and self.budget > 0):
            raise ValueError("a ratio of times needs a budget, after which a time is censored")


@dataclass(frozen=True)
class Bounds:
    """Of how many pairs the value is the logarithm of the ratio itself, and of how many only a bound on it."""

    exact: int = 0
    lower: int = 0
    """The ratio is at least that: the baseline was not there in time, or the treatment at the first look."""
    upper: int = 0
    neither: int = 0
    """Both arms were not there in time, or both at the first look: 0, whatever the ratio is."""


@dataclass(frozen=True)
class Reaching:
    """The times of one arm: when, or until when in vain."""

    times: tuple[float, ...]
    reached: tuple[bool, ...]


@dataclass(frozen=True)
class Effects:
    """One number a pair, and what became of the pairs that were planned."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    missing: tuple[int, ...] = ()
    """Seeds of which an arm has no number."""
    unusable: tuple[int, ...] = ()
    """Those of them of which both arms have run, and what they came to makes no effect."""
    diverged: Mapping[str, int] = field(default_factory=dict)
    """By arm; scored as chance or censored, not left out."""
    bounds: Bounds | None = None
    reaching: Mapping[str, Reaching] = field(default_factory=dict)
    size: float = 0.0
    """The largest of the numbers that effects are differences of, where it is known: rounding is relative to it."""

    def read(self, value: float) -> float:
        """A mean of them, or an end of its interval, as people read it: 0 where it may be nothing but rounding."""
        size = max(self.size, *map(abs, self.values), 0.0)
        return 0.0 if abs(value) <= _ROUNDING * size else value


def effects(
    estimand: Estimand,
    found: Results,
    treatment: Place,
    baseline: Place | None = None,
    planned: Iterable[int] = (),
) -> Effects:
    """The effect of every seed that was planned, or that either arm has.

    Args:
        found: of one stage, as a rule: seeds that chose a setting are not to judge it.
        treatment: with `scale="value"` the only one.
        baseline: at another setting, where the best of each are compared.
        planned: seeds that should be there; one that no arm has is missing too.
    """
    treated = found.at(treatment)
    compared = found.at(baseline) if baseline is not None else treated
    seeds = sorted({*treated, *compared, *planned})
    pairs = [(treated.get(seed), compared.get(seed)) for seed in seeds]
    timed = estimand.scale == "log_time_ratio"
    each = computed(seeds, [(_time_effect if timed else _score_effect)(estimand, *pair) for pair in pairs])
    have_run = {seed for seed, (ours, theirs) in zip(seeds, pairs, strict=True) if ours and theirs}
    arms = {treatment.arm: treated} | ({baseline.arm: compared} if baseline is not None else {})
    return Effects(
        each.seeds,
        each.values,
        each.missing,
        tuple(seed for seed in each.missing if seed in have_run),
        {arm: sum(run.diverged for run in runs.values()) for arm, runs in arms.items()},
        _bounds(estimand, [pair for seed, pair in zip(seeds, pairs, strict=True) if seed in each.seeds])
        if timed
        else None,
        {arm: _reaching(estimand, list(runs.values())) for arm, runs in arms.items()} if timed else {},
        max((_size(estimand, run) for runs in arms.values() for run in runs.values()), default=0.0),
    )


def computed(
    seeds: Sequence[int], of_each: Sequence[float | None], known: Sequence[BoundKind] | None = None
) -> Effects:
    """Effects that a claim computes by itself, oriented like all; None is a missing one.

    Args:
        known: of each, what is known of it; None: it is exact. Of `neither`, nothing is known to either side, and no
            conclusion is drawn.
    """
    kept = {seed: value for seed, value in zip(seeds, of_each, strict=True) if value is not None}
    lost = tuple(seed for seed in seeds if seed not in kept)
    if known is None:
        return Effects(tuple(kept), tuple(kept.values()), lost)
    kinds = Counter(kind for seed, kind in zip(seeds, known, strict=True) if seed in kept)
    unknown = kinds["neither"]
    bounds = Bounds(kinds["exact"], kinds["lower"] + unknown, kinds["upper"] + unknown)
    return Effects(tuple(kept), tuple(kept.values()), lost, bounds=bounds)


def bound_of(at_least: bool, at_most: bool) -> BoundKind:
    """What is known of a value that may only be a bound on either side."""
    if at_least and at_most:
        return "neither"
    return "lower" if at_least else "upper" if at_most else "exact"


def _score_effect(estimand: Estimand, treated: Run | None, compared: Run | None) -> float | None:
    if treated is None or compared is None:
        return None
    ours, theirs = estimand.metric.of(treated), estimand.metric.of(compared)
    if ours is None or theirs is None:
        return None
    if estimand.scale == "value":
        return ours if abs(ours) <= _LARGEST else None
    if estimand.scale == "log_ratio":
        # No logarithm, no effect: such a pair is missing, which a guard says.
        if ours <= 0 or theirs <= 0:
            return None
        ours, theirs = math.log(ours), math.log(theirs)
    effect = ours - theirs if estimand.metric.higher_is_better else theirs - ours
    return effect if abs(effect) <= _LARGEST else None


def _size(estimand: Estimand, run: Run) -> float:
    """Of the number of a run that is subtracted; that of a logarithm is at least 1, as a ratio may be rounded."""
    if estimand.scale == "log_time_ratio":
        return 1.0
    value = estimand.metric.of(run)
    if value is None or (estimand.scale == "log_ratio" and value <= 0):
        return 0.0
    return max(1.0, abs(math.log(value))) if estimand.scale == "log_ratio" else min(abs(value), _LARGEST)


def _time_effect(estimand: Estimand, treated: Run | None, compared: Run | None) -> float | None:
    if treated is None or compared is None:
        return None
    ours, theirs = _restricted(estimand, treated), _restricted(estimand, compared)
    return None if ours is None or theirs is None else math.log(theirs / ours)


def _restricted(estimand: Estimand, run: Run) -> float | None:
    """min(time, T); None if the run does not say when."""
    if estimand.metric.key not in run.metrics and not run.diverged:
        return None
    return _time(estimand, run) or estimand.budget


def _time(estimand: Estimand, run: Run) -> float | None:
    """None: not within the budget. A target that was reached before training diverged was reached."""
    time = run.metrics.get(estimand.metric.key)
    if time is None or time > (estimand.budget or math.inf):
        return None
    if time <= 0:
        raise ResultsUnfit(f"{estimand.metric.key} of seed {run.seed} is {time}: times are positive")
    return time


def _bounds(estimand: Estimand, pairs: Iterable[tuple[Run | None, Run | None]]) -> Bounds:
    counts: Counter[str] = Counter(
        _bound(estimand, treated, compared) for treated, compared in pairs if treated and compared
    )
    return Bounds(**counts)


def _bound(estimand: Estimand, treated: Run, compared: Run) -> BoundKind:
    ours, theirs = _time(estimand, treated), _time(estimand, compared)
    at_least = theirs is None or _at_first(estimand, ours)
    at_most = ours is None or _at_first(estimand, theirs)
    return bound_of(at_least, at_most)


def _at_first(estimand: Estimand, time: float | None) -> bool:
    return estimand.first is not None and time is not None and time <= estimand.first


def _reaching(estimand: Estimand, runs: list[Run]) -> Reaching:
    timed = [(run, limit) for run in runs if (limit := _restricted(estimand, run)) is not None]
    return Reaching(tuple(limit for _, limit in timed), tuple(_time(estimand, run) is not None for run, _ in timed))
