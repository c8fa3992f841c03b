"""What a study answers, complete: whoever has a verdict needs nothing else to judge how far to believe it.

`Evidence`, `Exact` and `Fractions` are what a claim hands over to be judged; a `Verdict` is what comes back, and
`document` is it as JSON.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bncore.studies.estimand import Effects, Estimand
from bncore.studies.guards import Guard
from bncore.studies.margin import Interval, Label, Margin, Outcome


@dataclass(frozen=True)
class Words:
    """How a person says what is compared."""

    question: str
    """As asked: "Does batch normalization need fewer steps to 90 % test accuracy?"."""
    quantity: str
    """What is measured: "test accuracy", "steps to 90 % test accuracy"."""
    treatment: str
    baseline: str = ""
    """Empty where one arm alone is measured."""
    unit: str = ""
    factor: float = 1.0
    """From the metric to the unit: 100, for an accuracy in points."""


@dataclass(frozen=True)
class Right:
    """Which predictions of two arms were right: bool, shape (seed, example), the same examples in the same order."""

    treatment: np.ndarray
    baseline: np.ndarray


@dataclass(frozen=True)
class Disagreements:
    """Pairs of predictions, pooled over seeds, of which exactly one was right; p by McNemar's test."""

    only_treatment: int
    only_baseline: int
    p: float


@dataclass(frozen=True)
class Evidence:
    """A mean effect over seeds, and how large it has to be."""

    name: str
    words: Words
    estimand: Estimand
    margin: Margin
    effects: Effects
    guards: tuple[Guard, ...] = ()
    right: Right | None = field(default=None, compare=False)
    """Where predictions were kept."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """What else the same runs say, arm by arm as a rule: it stands beside the effect and decides nothing."""


@dataclass(frozen=True)
class Exact:
    """What theory says to the last digit: numbers that rounding alone keeps from 0, and the limit for them."""

    name: str
    words: Words
    measured: Mapping[str, float]
    limit: float
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Fractions:
    """How many seeds train, by setting of the grid: the treatment everywhere, the baseline nowhere."""

    name: str
    words: Words
    treatment: Mapping[str, tuple[int, int]]
    """By setting, as a person reads it: how many trained, of how many."""
    baseline: Mapping[str, tuple[int, int]]
    guards: tuple[Guard, ...] = ()
    high: float = 0.9
    low: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < 1:
            raise ValueError("no number of networks shows a share of 1 or 0")


@dataclass(frozen=True)
class Tests:
    """Probabilities under a hypothesis, two-sided; all but `decision` for this look alone."""

    no_effect: float
    """Paired t."""
    sign_flip: float
    sign_flip_exact: bool
    decision: float
    """The error at which the interval would just decide, for or against, in all looks together."""
    decision_holm: float | None = None
    """The same among all questions of the report (Holm 1979)."""


@dataclass(frozen=True)
class ArmTimes:
    """When an arm reached its target."""

    seeds: int
    reached: int
    fraction_reached: float
    median: float | None


@dataclass(frozen=True)
class Estimated:
    """All numbers of a verdict that rests on an effect."""

    effect: float
    sd: float
    interval: Interval
    """95 % in all looks together."""
    shown: Mapping[str, float | str]
    """Effect and interval as people read them: points, or a ratio instead of its logarithm; `unit` says which."""
    bootstrap: Interval | None
    tests: Tests
    power: float
    """How often so many seeds decide when the truth is one margin away."""
    extra_seeds: int | None
    """How many more would probably decide; None: none are needed, or more than the study may be extended by."""
    level: float
    """Two-sided error of this look's interval, that of all looks together being 5 %."""
    looks: tuple[int, ...]
    most: int


@dataclass(frozen=True)
class Share:
    """How many networks of an arm train at a setting, and what that says of the share of all that would."""

    arm: str
    """In words."""
    setting: str
    trained: int
    seeds: int
    interval: Interval
    """Clopper and Pearson's; 95 % for all settings, both arms and all looks together."""


@dataclass(frozen=True)
class Counted:
    """All numbers of a verdict that rests on shares, in all looks together: see `fractions`."""

    shares: tuple[Share, ...]
    decision: float
    """The error at which the shares would just decide, for or against."""
    level: float
    """Two-sided error of this look."""
    looks: tuple[int, ...]
    most: int
    seeds_needed: int
    """The fewest with which it could hold, were all shares 1 and 0: in a study of so many where this one has fewer."""
    decision_holm: float | None = None
    """The same among all questions of the report (Holm 1979)."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one question."""

    name: str
    words: Words
    outcome: Outcome
    label: Label | None
    reasons: tuple[str, ...]
    """Why it is inconclusive; empty otherwise."""
    sentence: str
    """To be read out."""
    n: int
    """Pairs, or networks measured."""
    guards: tuple[Guard, ...] = ()
    estimand: Estimand | None = None
    margin: Margin | None = None
    effects: Effects | None = None
    estimated: Estimated | None = None
    times: Mapping[str, ArmTimes] = field(default_factory=dict)
    disagreements: Disagreements | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    alone: Outcome | None = None
    """What it was before other questions of the same report were taken into account, if that differs."""
    counted: Counted | None = None

    @property
    def decision(self) -> float | None:
        """p of what was decided by chance; None where there is none in it, or nothing to judge."""
        if self.counted is not None:
            return self.counted.decision
        return self.estimated.tests.decision if self.estimated is not None else None

    @property
    def looks(self) -> tuple[int, ...]:
        """Those that were taken, this one included; none where there is no chance in it."""
        looked = self.counted or self.estimated
        return looked.looks if looked is not None else ()

    def among(self, p: float) -> "Verdict":
        """With the p that its decision has among all questions of a report."""
        if self.counted is not None:
            return replace(self, counted=replace(self.counted, decision_holm=p))
        assert self.estimated is not None
        tests = replace(self.estimated.tests, decision_holm=p)
        return replace(self, estimated=replace(self.estimated, tests=tests))


def document(verdict: Any) -> dict[str, Any]:
    """A verdict, or a report of them, as JSON: lists for tuples, null for what is not finite."""
    plain = _plain(dataclasses.asdict(verdict))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
